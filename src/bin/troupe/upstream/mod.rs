//! Flags of kube-apiserver, kube-controller-manager and kube-scheduler that have no setting here.
//!
//! In: the arguments of a command that starts a control plane. Out: the same in the words that it knows. What says what holds here anyway is left
//! out, what is called otherwise gets its name, and all else of upstream's is refused with what to do instead.

mod model;
mod table;

use std::ffi::OsString;

use anyhow::{Result, bail};

use self::{model::Here, table::FLAGS};

/// The commands whose arguments may be upstream's.
const COMMANDS: [&str; 2] = ["control-plane", "up"];

/// The arguments of this program in its own words.
///
/// # Errors
/// The first flag that cannot be taken.
pub fn take(given: Vec<OsString>) -> Result<Vec<OsString>> {
    if !given.get(1).and_then(|command| command.to_str()).is_some_and(|command| COMMANDS.contains(&command)) {
        return Ok(given);
    }
    let port = port(&given);
    let (mut taken, mut rest) = (Vec::new(), given.into_iter());
    while let Some(argument) = rest.next() {
        let Some((flag, value)) = argument.to_str().and_then(split) else {
            taken.push(argument);
            continue;
        };
        match FLAGS.iter().find(|(name, _)| *name == flag) {
            None => taken.push(argument),
            Some((name, Here::Never(instead))) => bail!("--{name} has no effect here: {instead}"),
            Some((name, Here::Named(own))) => {
                let own = if *name == "secure-port" { port } else { *own };
                taken.push(value.map_or_else(|| format!("--{own}"), |value| format!("--{own}={value}")).into());
            }
            Some((name, Here::Always(values, instead))) => {
                let said = match value {
                    Some(value) => value.to_owned(),
                    // A switch alone says that it is on.
                    None if is_switch(values) => "true".into(),
                    None => rest.next().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default(),
                };
                if !values.iter().any(|value| value.eq_ignore_ascii_case(&said)) {
                    bail!("--{name}={said} cannot be had, only {}: {instead}", values.join(" or "));
                }
            }
        }
    }
    Ok(taken)
}

/// The name of a flag and what follows a `=`.
fn split(argument: &str) -> Option<(&str, Option<&str>)> {
    let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-').filter(|short| short.starts_with('v')))?;
    Some(flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value))))
}

fn is_switch(values: &[&str]) -> bool {
    values.iter().all(|value| ["true", "false"].contains(value))
}

/// Which port `--secure-port` is: that of the API server, or of components that have it elsewhere.
fn port(given: &[OsString]) -> &'static str {
    let mut components = given.iter().enumerate().filter_map(|(at, argument)| match split(argument.to_str()?)? {
        ("components", Some(value)) => Some(value),
        ("components", None) => given.get(at + 1)?.to_str(),
        _ => None,
    });
    match components.next_back() {
        Some(components) if !components.split(',').any(|component| component == "apiserver") => "component-port",
        _ => "api-port",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    fn taken(words: &str) -> Result<String, String> {
        let given = words.split(' ').map(OsString::from).collect();
        let taken = take(given).map_err(|error| error.to_string())?;
        Ok(taken.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn arguments_of_kubeadms_static_pods_are_taken_or_refused_by_name() {
        let told = taken(
            "troupe control-plane --allow-privileged=true --authorization-mode=Node,RBAC --enable-bootstrap-token-auth=true --secure-port=6443 \
             --service-cluster-ip-range=10.96.0.0/12 --leader-elect=true --v=2 --requestheader-allowed-names front-proxy-client --use-service-account-credentials",
        );
        let own = "troupe control-plane --authorization-mode=Node,RBAC --api-port=6443 --service-cidr=10.96.0.0/12";
        assert_eq!(told.as_deref(), Ok(own));
        let refused = |words: &str| taken(words).expect_err("refused");
        let authority = refused("troupe control-plane --client-ca-file=/etc/kubernetes/pki/ca.crt");
        assert!(authority.starts_with("--client-ca-file has no effect here: ") && authority.contains("`--certificates-dir`"), "{authority}");
        let privileged = refused("troupe up --allow-privileged=false");
        assert!(privileged.starts_with("--allow-privileged=false cannot be had, only true: "), "{privileged}");
        assert!(refused("troupe control-plane --v=6").contains("TROUPE_LOG") && refused("troupe control-plane -v 6").contains("TROUPE_LOG"));
    }

    #[test]
    fn a_port_is_that_of_what_runs() {
        let port = |components: &str| taken(&format!("troupe control-plane {components} --secure-port 1")).expect("taken");
        assert!(port("--components=controllers").ends_with("--component-port 1") && port("--components scheduler").ends_with("--component-port 1"));
        assert!(port("--components=apiserver,controllers").ends_with("--api-port 1"));
    }

    #[test]
    fn other_commands_have_arguments_of_their_own() {
        let words = "troupe actors -v --profiling=true";
        assert_eq!(taken(words).as_deref(), Ok(words));
    }

    #[test]
    fn every_flag_of_upstream_is_known() {
        let command = crate::Cli::command();
        let own = command.find_subcommand("control-plane").expect("there is such a command");
        let names = |argument: &clap::Arg| {
            let others = argument.get_all_aliases().unwrap_or_default();
            argument.get_long().into_iter().chain(others).map(str::to_owned).collect::<Vec<_>>()
        };
        let own: BTreeSet<String> = own.get_arguments().flat_map(names).chain(["version".into(), "help".into()]).collect();
        let table: BTreeSet<String> = FLAGS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(table.len(), FLAGS.len(), "a flag stands there twice");
        let both: Vec<_> = own.intersection(&table).collect();
        assert!(both.is_empty(), "settings and refused: {both:?}");
        let unknown: Vec<&str> = include_str!("flags.txt").lines().filter(|name| !own.contains(*name) && !table.contains(*name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn what_the_table_says_stands_in_the_documentation() {
        let documentation = include_str!("../../../../docs/operations.md");
        let missing = FLAGS.iter().filter(|(name, here)| {
            let text = match here {
                Here::Always(_, text) | Here::Never(text) => text,
                Here::Named(own) => own,
            };
            !documentation.lines().any(|line| line.starts_with('|') && line.contains(&format!("`--{name}`")) && line.contains(text))
        });
        assert_eq!(missing.map(|(name, _)| *name).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
