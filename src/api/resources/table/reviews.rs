//! Virtual resources: a create is answered, nothing is stored.

use super::row::{Group, Row, with};
use crate::meta::request::Verb;
use crate::resources::kinds;

const CREATE: &[Verb] = &[Verb::Create];

pub(super) const AUTHENTICATION: Group = Group {
    name: "authentication.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("SelfSubjectReview", "selfsubjectreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
        Row::cluster("TokenReview", "tokenreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
    ],
};

pub(super) const AUTHORIZATION: Group = Group {
    name: "authorization.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::namespaced("LocalSubjectAccessReview", "localsubjectaccessreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
        Row::cluster("SelfSubjectAccessReview", "selfsubjectaccessreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
        Row::cluster("SelfSubjectRulesReview", "selfsubjectrulesreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
        Row::cluster("SubjectAccessReview", "subjectaccessreviews").strategy(with::<kinds::Bare>).verbs(CREATE),
    ],
};
