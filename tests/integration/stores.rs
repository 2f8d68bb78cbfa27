//! The failure tests of the slice on the other store: with the state in etcd as with the embedded one.

use crate::{
    cluster::{Backend, Cluster},
    leftovers, panics, sample,
};

#[test]
fn failures_are_survived_with_etcd_as_with_the_embedded_store() {
    // One cluster for all of them: starting it takes longer than some of the checks.
    let cluster = Cluster::up_on(Backend::Etcd);
    leftovers::nothing_of_a_deleted_namespace(&cluster);
    sample::nobody_notices_a_killed_daemon(&cluster);
    panics::stay_where_they_are(&cluster);
}
