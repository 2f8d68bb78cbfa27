//! What `troupe down` is to take away: what the record of the instance tells, and nothing that others have.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use troupe_actors::kubelet::cgroups::slices::parents;

use crate::{
    Found,
    config::{Config, Part},
    containerd::ContainerdLayout,
    instance::{
        DAEMONS, Daemon, Record, UP,
        claims::{COMPONENT_KUBECONFIGS, Claims},
        kernel::{self, NetworkNamespace},
        marks, register, running,
    },
};

/// An instance that is taken down.
pub(super) struct Target {
    pub(super) record: Record,
    pub(super) config: Config,
    /// What the kernel keeps is of this boot, and may be there.
    pub(super) since_boot: bool,
    others: Vec<Other>,
}

/// Another instance of the machine.
struct Other {
    name: String,
    claims: Claims,
    lives: bool,
}

impl Target {
    /// The instance that was found; `None` where nothing of one is.
    pub(super) fn of(found: Found) -> Result<Option<Self>> {
        let boot = kernel::boot()?;
        let record = match found.record {
            Some(record) => record,
            None if was_here(&found.config) => unrecorded(&found.config, &boot)?,
            None => return Ok(None),
        };
        // Nodes that it started are taken away first.
        let is_other = |other: &Record| other.id != record.id && other.cluster.as_ref() != Some(&record.id);
        let others = register::all().into_iter().filter(is_other).map(|other| {
            let mut claims = Claims::of_record(&other, marks::canonical);
            // A node that its cluster started lies in that one's directories.
            if record.cluster.as_ref() == Some(&other.id) {
                claims.directories.clear();
            }
            Other { name: format!("the cluster in {} ({})", other.data_dir.display(), other.id), claims, lives: other.lives(&boot) }
        });
        let others = others.collect();
        Ok(Some(Target { since_boot: record.made.boot == boot, record, config: found.config, others }))
    }

    /// Each run directory it ever had, with the containerd that may live there.
    pub(super) fn containerds(&self) -> Vec<ContainerdLayout> {
        let layout = self.config.containerd();
        let mut run_dirs = self.record.made.run_dirs.clone();
        run_dirs.insert(self.record.run_dir.clone());
        run_dirs.into_iter().map(|run_dir| ContainerdLayout { state: run_dir.join("containerd"), ..layout.clone() }).collect()
    }

    /// The pid files that its daemons may hold.
    pub(super) fn pid_files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut run_dirs = self.record.made.run_dirs.clone();
        run_dirs.insert(self.record.run_dir.clone());
        run_dirs.iter().flat_map(|dir| DAEMONS.map(|daemon| (daemon, dir.join(format!("{daemon}.pid"))))).collect()
    }

    /// Who else has a directory, something in it, or one around it.
    pub(super) fn owner_of_directory(&self, dir: &Path) -> Option<String> {
        if let Some(id) = marks::owner(dir).filter(|id| *id != self.record.id) {
            return Some(format!("the instance {id}"));
        }
        let dir = marks::canonical(dir);
        let has = |other: &&Other| other.claims.directories.iter().any(|(theirs, _)| theirs.starts_with(&dir) || dir.starts_with(theirs));
        self.others.iter().find(has).map(|other| other.name.clone())
    }

    /// Who else has a file.
    pub(super) fn owner_of_kubeconfig(&self, file: &Path) -> Option<String> {
        let file = marks::canonical(file);
        self.others.iter().find(|other| other.claims.kubeconfigs.contains(&file)).map(|other| other.name.clone())
    }

    /// Who else has pods in a cgroup.
    pub(super) fn owner_of_cgroup(&self, parent: &str) -> Option<String> {
        let has = |other: &&Other| {
            other.lives
                && other
                    .claims
                    .cgroup_parent
                    .as_deref()
                    .is_some_and(|theirs| Path::new(theirs).starts_with(parent) || Path::new(parent).starts_with(theirs))
        };
        self.others.iter().find(has).map(|other| other.name.clone())
    }

    /// Who else has a node in a network namespace.
    pub(super) fn owner_of_network(&self, network: &NetworkNamespace) -> Option<String> {
        let has = |other: &&Other| other.lives && other.claims.node && other.claims.network.is_some_and(|theirs| theirs.is(network));
        self.others.iter().find(has).map(|other| other.name.clone())
    }
}

/// Whether a cluster without a record was here: one of before there were records, or one whose every copy was lost.
fn was_here(config: &Config) -> bool {
    let files = ["store", "pki", "containerd", "leader-identity", "cni"];
    let held = DAEMONS.iter().any(|daemon| running(&config.daemon_pid_file(daemon)).is_some());
    held || config.run_dir.join("containerd").exists() || files.iter().any(|name| config.data_dir.join(name).exists())
}

/// What such a cluster must have made, by the settings that it is given now.
fn unrecorded(config: &Config, boot: &str) -> Result<Record> {
    eprintln!("  ! {} has no record of this cluster: going by flags, configuration file and defaults", config.data_dir.display());
    let mut record = Record::new(config.data_dir.clone(), config.run_dir.clone())?;
    record.daemons.insert(UP.into(), Daemon { parts: Part::WHOLE.into(), settings: config.settings() });
    let made = &mut record.made;
    made.boot = boot.to_owned();
    made.living = true;
    made.network = Some(NetworkNamespace::current()?);
    made.runtime.clone_from(&config.container_runtime_endpoint);
    made.pod_cidr = Some(config.pod_cidr);
    let one = |path: &PathBuf| BTreeSet::from([path.clone()]);
    made.kubelet_dirs = one(&config.kubelet_dir);
    made.pod_logs_dirs = one(&config.pod_logs_dir);
    made.cni_conf_dirs = one(&config.cni_conf_dir);
    made.bridges = [config.bridge.clone()].into();
    made.cgroup_parents = parents(&config.cgroup_parent).into_iter().collect();
    made.kubeconfigs = COMPONENT_KUBECONFIGS.map(|name| config.kubeconfig_beside(name)).into();
    made.kubeconfigs.insert(config.kubeconfig.clone());
    Ok(record)
}
