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

/// The user of requests without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo { name: ANONYMOUS.into(), groups: vec![ALL_UNAUTHENTICATED.into()], ..UserInfo::default() }
}
