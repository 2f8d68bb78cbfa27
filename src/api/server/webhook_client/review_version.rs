//! The forms in which webhooks are asked.

/// A form of question that this server asks. Both say the same; answers in the older one are not held to so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        }
    }

    /// The `apiVersion` of reviews of a group.
    pub fn of_group(self, group: &str) -> String {
        let version = match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1Beta1 => "v1beta1",
        };
        format!("{group}/{version}")
    }
}
