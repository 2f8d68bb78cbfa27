//! Virtual resources: a create is answered, nothing is stored.

use super::row::{Group, Row};
use crate::service::Verb;

const CREATE: &[Verb] = &[Verb::Create];

pub(super) const AUTHENTICATION: Group = Group {
    name: "authentication.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("SelfSubjectReview", "selfsubjectreviews").verbs(CREATE), Row::cluster("TokenReview", "tokenreviews").verbs(CREATE)],
};

pub(super) const AUTHORIZATION: Group = Group {
    name: "authorization.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::namespaced("LocalSubjectAccessReview", "localsubjectaccessreviews").verbs(CREATE),
        Row::cluster("SelfSubjectAccessReview", "selfsubjectaccessreviews").verbs(CREATE),
        Row::cluster("SelfSubjectRulesReview", "selfsubjectrulesreviews").verbs(CREATE),
        Row::cluster("SubjectAccessReview", "subjectaccessreviews").verbs(CREATE),
    ],
};
