//! `troupe token`: the tokens with which machines join a cluster.

mod table;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use troupe_api::{
    auth::bootstrap_tokens::{self, BootstrapToken, NAME_PREFIX, NAMESPACE, NODE_GROUP, SECRET_TYPE},
    meta::time::{format_time, shifted},
    service::{DeleteOptions, ListOptions},
};
use troupe_api_client::{
    Client,
    remote::{RemoteApi, RemoteOptions},
};

use crate::{
    ClusterArgs,
    join::{ClusterInfo, ca_hash},
};

/// `troupe token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it
    Create {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: CreateArgs,
    },
    /// Show the tokens there are
    List(Box<ClusterArgs>),
    /// Remove tokens
    Delete {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        /// Tokens or their ids
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// `troupe token create …`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// How long the token holds, such as 2h30m; 0 for ever
    #[arg(long, default_value = "24h", value_parser = parse_ttl)]
    ttl: SignedDuration,
    /// What the token is for, for people
    #[arg(long, default_value = "")]
    description: String,
    /// Print the whole command for the machine that is to join
    #[arg(long)]
    print_join_command: bool,
}

fn parse_ttl(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let ttl: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if ttl.is_negative() { Err("a token cannot end before it begins".into()) } else { Ok(ttl) }
}

/// Runs a command at the cluster that its arguments name.
pub async fn run(command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create { cluster, arguments } => create(&client(*cluster)?, &arguments).await,
        TokenCommand::List(cluster) => list(&client(*cluster)?).await,
        TokenCommand::Delete { cluster, tokens } => delete(&client(*cluster)?, &tokens).await,
    }
}

fn client(cluster: ClusterArgs) -> Result<Client> {
    let kubeconfig = cluster.resolve()?.kubeconfig;
    let api = RemoteApi::new(RemoteOptions::new(&kubeconfig)).with_context(|| format!("cannot use {}: is a cluster up?", kubeconfig.display()))?;
    Ok(Client::new(Arc::new(api), Arc::default(), "troupe"))
}

async fn create(client: &Client, arguments: &CreateArgs) -> Result<()> {
    let token = BootstrapToken::generate();
    let secret = secret_of(&token, arguments, Timestamp::now());
    client.namespaced::<Secret>(NAMESPACE).create(&secret).await.context("cannot make the token")?;
    if !arguments.print_join_command {
        println!("{token}");
        return Ok(());
    }
    let map = client.namespaced::<ConfigMap>("kube-public").get("cluster-info").await.context("cannot read cluster-info")?;
    let kubeconfig = map.data.as_ref().and_then(|data| data.get("kubeconfig")).context("cluster-info has no kubeconfig")?;
    let info = ClusterInfo::parse(kubeconfig)?;
    println!("troupe node --join {} --token {token} --ca-cert-hash {}", info.server, ca_hash(&info.ca_pem)?);
    Ok(())
}

/// The Secret that is the token.
fn secret_of(token: &BootstrapToken, arguments: &CreateArgs, now: Timestamp) -> Secret {
    let mut data = BTreeMap::from([
        ("token-id", token.id.clone()),
        ("token-secret", token.secret.clone()),
        ("usage-bootstrap-authentication", "true".into()),
        ("usage-bootstrap-signing", "true".into()),
        ("auth-extra-groups", NODE_GROUP.into()),
    ]);
    if !arguments.ttl.is_zero() {
        data.insert("expiration", format_time(shifted(now, arguments.ttl)));
    }
    if !arguments.description.is_empty() {
        data.insert("description", arguments.description.clone());
    }
    let mut secret = Secret { type_: Some(SECRET_TYPE.into()), ..Secret::default() };
    secret.metadata.name = Some(token.secret_name());
    secret.metadata.namespace = Some(NAMESPACE.into());
    secret.data = Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect());
    secret
}

async fn list(client: &Client) -> Result<()> {
    let secrets = client.namespaced::<Secret>(NAMESPACE).list(ListOptions::default()).await.context("cannot list tokens")?;
    let tokens: Vec<_> = secrets.items.iter().filter(|secret| bootstrap_tokens::is_token(secret)).cloned().collect();
    print!("{}", table::render(&tokens, Timestamp::now()));
    Ok(())
}

async fn delete(client: &Client, tokens: &[String]) -> Result<()> {
    for given in tokens {
        let id = given.split('.').next().unwrap_or_default();
        if id.len() != 6 {
            bail!("{given:?} is neither a token nor its id");
        }
        let name = format!("{NAME_PREFIX}{id}");
        client
            .namespaced::<Secret>(NAMESPACE)
            .delete(&name, DeleteOptions::default())
            .await
            .with_context(|| format!("cannot remove the token {id}"))?;
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_made_here_signs_and_authenticates_until_its_time_is_over() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let arguments = CreateArgs { ttl: parse_ttl("2h").expect("a time"), description: "x".into(), print_join_command: false };
        let token = BootstrapToken::generate();
        let secret = secret_of(&token, &arguments, now);
        assert_eq!(bootstrap_tokens::signing_token(&secret, now), Some(token));
        assert_eq!(bootstrap_tokens::groups(&secret).expect("good groups"), ["system:bootstrappers", NODE_GROUP]);
        assert!(bootstrap_tokens::has_expired(&secret, now + SignedDuration::from_hours(2)));
        let forever = CreateArgs { ttl: parse_ttl("0").expect("a time"), ..arguments };
        assert_eq!(bootstrap_tokens::expires(&secret_of(&BootstrapToken::generate(), &forever, now)), None);
        assert!(parse_ttl("-1h").is_err() && parse_ttl("soon").is_err());
    }
}
