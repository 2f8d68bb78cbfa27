//! Names of users and groups that the API server itself gives.

use crate::service::UserInfo;

/// Everybody who authenticated.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";

/// Everybody who did not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";

/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// Members may do everything.
pub const MASTERS: &str = "system:masters";

/// Members may look at health and metrics.
pub const MONITORING: &str = "system:monitoring";

/// Whose account something goes to: who may make service accounts has as many as they like, so those of a namespace count as one.
pub fn holder(user: &UserInfo) -> &str {
    let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    account.map_or(&*user.name, |(_, name)| &user.name[..user.name.len() - name.len() - 1])
}

/// The user of requests without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo { name: ANONYMOUS.into(), groups: vec![ALL_UNAUTHENTICATED.into()], ..UserInfo::default() }
}
