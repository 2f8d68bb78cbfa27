//! What the API server does for some kinds only. A row says it, so that no shared path asks for a kind by name.

/// One of a row's peculiarities. What can be told by a function of the object is in the kind's [`Strategy`](super::Strategy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Objects are namespaces: each lies within itself.
    Namespaces,
    /// Objects hold cluster addresses and node ports, which are taken before they are written and released after they are gone.
    ServiceAddresses,
    /// Objects grant rights, which who writes them must hold.
    Grants,
    /// Objects name parameters, which who writes them must be allowed to read.
    Parameters,
    /// Their status is written by who may sign for the signer that their spec names.
    Signed,
    /// Objects hold expressions, which take longer to compile than to decode.
    Expressions,
    /// A create puts a pod on a node, as the subresource `binding` does.
    Bindings,
    /// A finished deletion is answered with the object instead of a Status.
    ReturnsDeleted,
    /// The cluster's own parts live by them: they are made also while memory is short.
    Vital,
    /// The same for those in the namespaces of the cluster's own parts.
    VitalInSystem,
    /// Renewals by leaders and nodes, which must not wait for anything else.
    Renewals,
    /// They tell of changes of other objects, and are no change that a trace shows.
    News,
    /// Few watch them, and they are large, or very many change all the time: little of what they were is kept in memory.
    ShortHistory,
}
