//! Settings of the API server that stay as they were given: what they mean is known where they are used.

use std::path::PathBuf;

use super::Settings;

macro_rules! api_settings {
    ($($field:ident: $type:ty),*) => {
        /// What was said about admission, identities, rights and keys.
        #[derive(Clone, Debug, Default)]
        pub struct ApiSettings {
            $(pub $field: Option<$type>),*
        }

        impl ApiSettings {
            pub fn of(settings: &Settings) -> Self {
                ApiSettings { $($field: settings.$field.clone()),* }
            }

            /// The same among other settings.
            pub fn among(self, others: Settings) -> Settings {
                Settings { $($field: self.$field,)* ..others }
            }
        }
    };
}

api_settings! {
    enable_admission_plugins: Vec<String>,
    disable_admission_plugins: Vec<String>,
    encryption_provider_config: PathBuf,
    encryption_provider_config_automatic_reload: bool,
    runtime_config: Vec<String>,
    feature_gates: Vec<String>,
    oidc_issuer_url: String,
    oidc_client_id: String,
    oidc_username_claim: String,
    oidc_username_prefix: String,
    oidc_groups_claim: String,
    oidc_groups_prefix: String,
    oidc_required_claim: Vec<String>,
    oidc_ca_file: PathBuf,
    oidc_signing_algs: Vec<String>,
    token_auth_file: PathBuf,
    authentication_config: PathBuf,
    authorization_config: PathBuf,
    authentication_token_webhook_config_file: PathBuf,
    authentication_token_webhook_cache_ttl: u64,
    audit_webhook_config_file: PathBuf
}
