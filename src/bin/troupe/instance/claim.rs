//! How an instance takes its place on the machine: it is told what stands in the way, or it is written down.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use troupe_actors::kubelet::cgroups::{self, driver::CgroupDriver};

use super::{
    CONTROL_PLANE, Daemon, NODE, Record, UP,
    claims::{COMPONENT_KUBECONFIGS, Claims, collisions},
    find, kernel,
    kernel::NetworkNamespace,
    marks, register,
};
use crate::{
    config::{Config, Part, Settings, flag, takes},
    containerd,
};

/// Settings that name things on the machine: as long as pods live they cannot change.
const KEPT: [&str; 8] = ["runDir", "kubeletDir", "podLogsDir", "cniConfDir", "cni", "bridge", "cgroupParent", "containerRuntimeEndpoint"];

/// Something in the way of an instance, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    pub mend: String,
}

/// A daemon that is about to start.
pub struct Claimant<'a> {
    pub config: &'a Config,
    /// What its pid file is called.
    pub daemon: &'static str,
    pub parts: BTreeSet<Part>,
}

impl Claimant<'_> {
    /// What it takes of the configuration.
    fn settings(&self) -> Settings {
        self.config.settings().only(|setting| takes(&self.parts, setting))
    }

    /// What stands in its way; empty when it may start. Nothing is changed.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn obstacles(&self) -> Result<Vec<Obstacle>> {
        let known = find::of_place(&self.config.data_dir, &self.config.run_dir)?;
        let boot = kernel::boot()?;
        let mut found = Vec::new();
        if let Some(record) = &known {
            found.extend(self.changes(record, &boot)?);
            found.extend(self.siblings(record));
        }
        found.extend(self.collisions(known.as_ref())?);
        if self.parts.contains(&Part::Node) {
            found.extend(self.foreign_directories(known.as_ref()));
            let own =
                known.as_ref().is_some_and(|record| record.made.boot == boot && record.made.cgroup_parents.contains(&self.config.cgroup_parent));
            if !own {
                found.extend(self.foreign_pods());
            }
        }
        Ok(found)
    }

    /// Settings that a living instance cannot change.
    fn changes(&self, record: &Record, boot: &str) -> Result<Vec<Obstacle>> {
        let may_hold_pods = record.made.living && record.made.boot == boot;
        if !may_hold_pods || !self.parts.contains(&Part::Node) {
            return Ok(Vec::new());
        }
        let (before, now) = (record.settings().entries(), self.settings().entries());
        let mut found = Vec::new();
        for setting in KEPT.into_iter().filter(|setting| before.get(*setting) != now.get(*setting)) {
            let (option, kept) = (flag(setting), before.get(setting).map_or("not set".into(), plain));
            let what = format!("this cluster was started with {option} {kept}, and its pods may live there: {option} cannot change now");
            found.push(Obstacle { what, mend: format!("start it with {option} {kept}, or take it down first (troupe down)") });
        }
        if let Some(network) = record.made.network.filter(|network| !NetworkNamespace::current().is_ok_and(|here| here.is(network))) {
            let what = format!("this cluster was started in another network namespace (inode {})", network.inode);
            found.push(Obstacle { what, mend: "start it there, or take it down first (troupe down)".into() });
        }
        Ok(found)
    }

    /// Daemons of the same instance that do the same.
    fn siblings(&self, record: &Record) -> Vec<Obstacle> {
        let others: &[&str] = if self.daemon == UP { &[NODE, CONTROL_PLANE] } else { &[UP] };
        let running = others.iter().filter_map(|daemon| Some((*daemon, record.running(daemon)?)));
        let told = running.map(|(daemon, pid)| Obstacle {
            what: format!("{daemon} runs for this cluster (pid {pid})"),
            mend: "stop it first, or leave this one out: troupe up does what both of the others do".into(),
        });
        told.collect()
    }

    /// What other instances of the machine have.
    fn collisions(&self, known: Option<&Record>) -> Result<Vec<Obstacle>> {
        let mine = Claims { network: Some(NetworkNamespace::current()?), ..Claims::of(&self.settings(), &self.parts, marks::canonical) };
        let neighbours = register::neighbours(known.map_or("", |record| &record.id));
        let collisions = neighbours.iter().flat_map(|record| {
            let them = format!("the cluster in {} ({})", record.data_dir.display(), record.id);
            let mut theirs = Claims::of_record(record, marks::canonical);
            if known.is_some_and(|known| known.is_of_one_cluster(record)) {
                theirs.directories.clear();
            }
            collisions(&mine, &theirs, &them)
        });
        Ok(collisions.map(|collision| Obstacle { what: collision.what, mend: collision.mend }).collect())
    }

    /// Directories that say that they are somebody else's.
    fn foreign_directories(&self, known: Option<&Record>) -> Vec<Obstacle> {
        let own = |id: &str| known.is_some_and(|record| record.id == id);
        let mut found = Vec::new();
        for (dir, option) in [(&self.config.kubelet_dir, "--kubelet-dir"), (&self.config.pod_logs_dir, "--pod-logs-dir")] {
            let mend = format!("choose another with {option}");
            match marks::owner(dir) {
                Some(id) if !own(&id) => found.push(Obstacle { what: format!("{} belongs to the instance {id}", dir.display()), mend }),
                None if marks::is_foreign_kubelets(dir) => {
                    found.push(Obstacle { what: format!("{} is the directory of another kubelet", dir.display()), mend });
                }
                _ => {}
            }
        }
        found
    }

    /// Pods in the cgroup that nobody here knows.
    fn foreign_pods(&self) -> Option<Obstacle> {
        let parents = pods_cgroups(self.config);
        let strangers = parents.iter().flat_map(|parent| cgroups::inhabited(parent).unwrap_or_default());
        let strangers: Vec<String> = strangers.filter(|uid| !self.config.kubelet_dir.join("pods").join(uid).exists()).collect();
        let first = strangers.first()?;
        let what = format!(
            "the cgroup {} has {} running pods that are not in {} (such as {first}): they are another kubelet's",
            self.config.cgroup_parent,
            strangers.len(),
            self.config.kubelet_dir.display()
        );
        Some(Obstacle { what, mend: "choose another with --cgroup-parent".into() })
    }

    /// Writes down that it starts, and marks its directories.
    ///
    /// # Errors
    /// When something is in its way, or cannot be written.
    pub fn claim(&self) -> Result<Record> {
        let _registering = register::lock()?;
        if let Some(obstacle) = self.obstacles()?.first() {
            bail!("{}: {}", obstacle.what, obstacle.mend);
        }
        let known = find::of_place(&self.config.data_dir, &self.config.run_dir)?;
        let mut record = match known {
            Some(record) => record,
            None => Record::new(self.config.data_dir.clone(), self.config.run_dir.clone())?,
        };
        self.note(&mut record)?;
        // First what tells of everything, then everything.
        record.save()?;
        if self.parts.contains(&Part::Node) {
            for dir in [&self.config.kubelet_dir, &self.config.pod_logs_dir] {
                marks::put(dir, &record.id).with_context(|| format!("cannot mark {} as this cluster's", dir.display()))?;
            }
        }
        Ok(record)
    }

    fn note(&self, record: &mut Record) -> Result<()> {
        let replaced: &[&str] = if self.daemon == UP { &[NODE, CONTROL_PLANE] } else { &[UP] };
        record.daemons.retain(|daemon, _| !replaced.contains(&daemon.as_str()));
        record.daemons.insert(self.daemon.into(), Daemon { parts: self.parts.clone(), settings: self.settings() });
        record.run_dir.clone_from(&self.config.run_dir);
        let (config, made) = (self.config, &mut record.made);
        made.run_dirs.insert(config.run_dir.clone());
        if self.parts.contains(&Part::ApiServer) {
            made.kubeconfigs.extend(COMPONENT_KUBECONFIGS.map(|name| config.kubeconfig_beside(name)));
            made.kubeconfigs.insert(config.kubeconfig.clone());
        }
        if self.parts.contains(&Part::Node) {
            made.boot = kernel::boot()?;
            made.living = true;
            made.network = Some(NetworkNamespace::current()?);
            made.pod_cidr = Some(config.pod_cidr);
            made.kubelet_dirs.insert(config.kubelet_dir.clone());
            made.pod_logs_dirs.insert(config.pod_logs_dir.clone());
            made.cni_conf_dirs.insert(config.cni_conf_dir.clone());
            made.bridges.insert(config.bridge.clone());
            made.cgroup_parents.extend(pods_cgroups(config));
        }
        Ok(())
    }
}

/// Where the cgroups of pods may come to lie. A containerd of our own has none made by systemd.
fn pods_cgroups(config: &Config) -> Vec<String> {
    let is_own = config.container_runtime_endpoint.is_none() && !containerd::answers(Path::new(containerd::SYSTEM_SOCKET));
    let asks = CgroupDriver::parse(config.kubelet.text("cgroupDriver")) == Some(CgroupDriver::Systemd);
    if is_own && !asks { vec![config.cgroup_parent.clone()] } else { cgroups::slices::parents(&config.cgroup_parent) }
}

/// Notes one more thing that was made.
///
/// # Errors
/// When the record is gone or cannot be written.
pub fn note(config: &Config, change: impl FnOnce(&mut Record)) -> Result<()> {
    let _registering = register::lock()?;
    let mut record = find::of_place(&config.data_dir, &config.run_dir)?.context("the record of this cluster is gone")?;
    let before = record.clone();
    change(&mut record);
    if record == before { Ok(()) } else { record.save() }
}

/// Notes the runtime that a node uses.
pub fn note_runtime(config: &Config, socket: &Path) -> Result<()> {
    note(config, |record| record.made.runtime = Some(socket.to_owned()))
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
