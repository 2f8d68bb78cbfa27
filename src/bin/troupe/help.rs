//! The command line as its help shows it: of each command what belongs to it.
//!
//! Commands about a cluster take all of its settings, for the start of a command may be copied from that of `troupe up`. What tells which
//! cluster is meant is shown, the rest is not.

use std::collections::BTreeSet;

use clap::{Args, Command, CommandFactory};

use crate::{Cli, Otherwise, config::Settings};

/// What tells which cluster is meant.
const WHICH: [&str; 3] = ["data_dir", "run_dir", "kubeconfig"];
const AFTER: &str = "Other settings of the cluster (troupe up --help) may be given, too; they must be those that it was started with.";

/// The whole command line.
pub fn command() -> Command {
    Cli::command().mut_subcommands(|command| {
        if ["up", "control-plane"].contains(&command.get_name()) {
            return command;
        }
        // The daemon shows all that it takes; the commands below it are about a cluster.
        if command.get_name() == "node" { command.mut_subcommands(about_a_cluster) } else { about_a_cluster(command) }
    })
}

/// Hides settings that belong to the cluster and not to a command about it.
fn about_a_cluster(command: Command) -> Command {
    let settings = settings();
    let given: BTreeSet<String> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
    let command = if settings.is_subset(&given) {
        let where_state_is = Otherwise::State.settings();
        let restores = command.get_name() == "restore";
        let shows = |id: &str| WHICH.contains(&id) || (restores && where_state_is.contains(&camel_case(id).as_str()));
        let hidden = |id: &str| settings.contains(id) && !shows(id);
        command
            .mut_args(|argument| {
                let hide = hidden(argument.get_id().as_str());
                argument.hide(hide)
            })
            .after_help(AFTER)
    } else {
        command
    };
    command.mut_subcommands(about_a_cluster)
}

/// The ids of all settings.
fn settings() -> BTreeSet<String> {
    let command = Settings::augment_args(Command::new("settings"));
    command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
}

/// A setting's name in the configuration file.
fn camel_case(id: &str) -> String {
    let mut words = id.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        letters.next().map_or_else(|| name.clone(), |letter| format!("{name}{}{}", letter.to_ascii_uppercase(), letters.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of a command, such as `token list`.
    fn help(words: &str) -> String {
        let mut command = command();
        let found = words.split(' ').fold(&mut command, |command, word| command.find_subcommand_mut(word).expect("there is such a command"));
        found.render_long_help().to_string()
    }

    #[test]
    fn help_shows_what_belongs_to_a_command() {
        for words in ["status", "down", "actors", "actors kill", "trace", "why", "backup", "token list", "net path", "node stop", "restore"] {
            let help = help(words);
            for flag in ["--data-dir", "--run-dir", "--kubeconfig", "--config"] {
                assert!(help.contains(flag), "{words} {flag}: {help}");
            }
            assert!(!help.contains("--bridge") && !help.contains("--api-port") && help.contains("troupe up --help"), "{words}: {help}");
            assert_eq!(help.contains("--etcd-servers"), words == "restore", "{words}: {help}");
        }
        for words in ["up", "control-plane", "node"] {
            assert!(help(words).contains("--node-name"), "{words}");
        }
        assert!(!help("images").contains("troupe up --help"));
    }

    #[test]
    fn what_help_does_not_show_is_taken_all_the_same() {
        let taken = command().try_get_matches_from(["troupe", "status", "--bridge", "b0", "--api-port=7000", "--cluster-cidr", "10.9.0.0/16"]);
        taken.expect("it is taken");
        assert!(command().try_get_matches_from(["troupe", "status", "--no-such-flag"]).is_err());
        command().debug_assert();
    }
}
