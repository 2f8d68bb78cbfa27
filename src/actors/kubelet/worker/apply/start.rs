//! Sandboxes and containers: from nothing to running.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Container;
use troupe_cri::{
    container::{ContainerInputs, container_config},
    mounts::recursive_read_only,
    names::{self, legacy_log_name, pod_cgroup},
    proto,
    resources::qos_class,
    sandbox::limits_of_traffic,
    security::{ImageUser, no_user_namespaces, verify_non_root},
};

use super::{
    super::{ephemeral, logs::forget_older},
    NETWORK_NOT_READY, Step, StepFailure, VOLUMES_MISSING, hooks, image, material,
};
use crate::{
    files::{Directory, blocking, place_and_name},
    kubelet::{
        cgroups::limit::{Limits, limit_pod as write_limits},
        device_plugins,
        env::{EnvInputs, References, environment, files, services::service_variables},
        events::Note,
        images, lines, metrics,
        resize::PodAmounts,
        resolv,
        volumes::{
            self, block, disk,
            mounts::{Mounts, mounts},
            subpath,
        },
    },
};

/// Creates the sandbox.
pub(super) async fn create_sandbox(step: &Step, attempt: u32) -> Result<(), StepFailure> {
    let failed = |why: String| {
        let message = format!("Failed to create pod sandbox: {why}");
        step.note(Note::warning("FailedCreatePodSandBox", message.clone()));
        StepFailure::new("FailedCreatePodSandBox", message)
    };
    if attempt > 0 {
        step.note(Note::normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created."));
    }
    lines::check(&step.spec()).map_err(failed)?;
    let handler = runtime_handler(step).await.map_err(failed)?;
    give_users(step, &handler).await.map_err(failed)?;
    let config = step.sandbox_config(attempt).map_err(failed)?;
    limit_pod(step).await.map_err(failed)?;
    let made = step.cri("RunPodSandbox", step.context.runtime.run_pod_sandbox(config, &handler)).await;
    let sandbox = made.map_err(|error| failed(error.to_string()))?;
    if let Err(error) = step.context.links.connect(&sandbox).await {
        // What has been set up halfway is not used; another one is made.
        if let Err(error) = step.cri("StopPodSandbox", step.context.runtime.stop_pod_sandbox(&sandbox)).await {
            tracing::warn!(%error, sandbox, "a sandbox without a link stays, and no container is started in it");
        }
        return Err(failed(error.to_string()));
    }
    note_unlimited(step);
    for message in resolv::left_out(&step.pod, &step.context.dns, &step.context.resolver) {
        step.note(Note::warning("DNSConfigForming", message));
    }
    Ok(())
}

/// Gives a pod that asks for users of its own ids for them, if the runtime can make something of those.
async fn give_users(step: &Step, handler: &str) -> Result<(), String> {
    if step.pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
        return Ok(());
    }
    if !step.context.features.load().user_namespaces(handler) {
        return Err(no_user_namespaces(handler));
    }
    step.context.user_namespaces.give(&step.id.uid).await.map(drop)
}

/// Tells of limits that the pod asks for and this node's network does not set.
fn note_unlimited(step: &Step) {
    let Some(plugin) = step.context.links.lacks_limits().filter(|_| step.spec().host_network != Some(true)) else { return };
    let asked: Vec<&str> = limits_of_traffic(&step.pod).map(|(name, _)| name).collect();
    if !asked.is_empty() {
        let message = format!("{} has no effect: this node lacks the CNI plugin {plugin}", asked.join(", "));
        step.note(Note::warning("BandwidthUnlimited", message));
    }
}

/// Limits the whole pod before anything runs in it.
async fn limit_pod(step: &Step) -> Result<(), String> {
    if !step.context.cgroups_per_qos {
        return Ok(());
    }
    let amounts = PodAmounts::of(&step.pod, &step.spec());
    let mut limits = Limits::of_pod(amounts, step.context.cpu_time, step.context.pod_max_pids);
    if step.context.container_manager.has_own_cpus(&step.id.uid) {
        limits.cpu_quota = 0;
    }
    let class = qos_class(&step.pod);
    let (root, uid) = (step.context.cgroup_parent.clone(), step.id.uid.clone());
    let told = step.context.slices.set(&pod_cgroup(&root, class, &uid), &limits).await;
    told.map_err(|error| format!("unable to ensure pod container exists: {error}"))?;
    let limited = blocking(move || write_limits(&root, class, &uid, &limits)).await;
    limited.map_err(|error| format!("unable to ensure pod container exists: {error}"))?;
    step.sizes.set_pod(amounts);
    Ok(())
}

/// The handler of the pod's runtime class; empty for the runtime's default one.
async fn runtime_handler(step: &Step) -> Result<String, String> {
    let class = step.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).filter(|name| !name.is_empty());
    let Some(name) = class else { return Ok(String::new()) };
    let failed = |why: String| format!("failed to get RuntimeClass {name:?}: {why}");
    let found = step.context.cluster.runtime_class(name).await.map_err(|status| failed(status.message))?;
    found.map(|class| class.handler.clone()).ok_or_else(|| format!("RuntimeClass {name:?} not found"))
}

/// Pulls, creates and starts a container, and runs its postStart hook.
pub(super) async fn start_container(step: &Step, name: &str, attempt: u32) -> Result<(), StepFailure> {
    let container = step.container(name).ok_or_else(|| StepFailure::new("CreateContainerConfigError", "the container is not in the spec"))?;
    let sandbox = step.observed.ready_sandbox().ok_or_else(|| StepFailure::new("CreateContainerError", "the sandbox is not ready"))?.clone();
    let refused = |status: troupe_api::Status| StepFailure::new("CreateContainerConfigError", status.message);
    let references = material::references(&*step.context.cluster, &step.pod, Some(name)).await.map_err(refused)?;
    note_missing_secrets(step, &references);
    let image = image::ensure(step, &container, &references, sandbox.attempt).await.inspect_err(|failure| {
        if !step.cancel.is_cancelled() {
            step.note_container(name, Note::warning("Failed", format!("Error: {}", failure.reason)));
        }
    })?;
    let mounted = pull_mounted(step, &container, &references, sandbox.attempt).await?;
    if step.cancel.is_cancelled() {
        return Err(StepFailure::new("ContainerCreating", "the pod stops"));
    }
    check_volumes(step).await?;
    // The daemon may have ended before it got there.
    step.context.links.connect(&sandbox.id).await.map_err(|error| {
        let message = format!("the network of the pod is not set up: {error}");
        step.note(Note::warning(NETWORK_NOT_READY, message.clone()));
        StepFailure::new(NETWORK_NOT_READY, message)
    })?;
    let is_new = !step.observed.containers.iter().any(|container| container.sandbox == sandbox.id);
    await_rules(step, &sandbox.ips, is_new).await?;
    let config = configure(step, &container, &references, (&image, &mounted), attempt).await.map_err(|message| {
        step.note_container(name, Note::warning("Failed", format!("Error: {message}")));
        StepFailure::new("CreateContainerConfigError", message)
    })?;
    let runtime = &step.context.runtime;
    let placed = config.linux.as_ref().and_then(|linux| linux.resources.as_ref()).map(|resources| resources.cpuset_cpus.clone());
    let sandbox_config = step.sandbox_config(sandbox.attempt).map_err(|message| StepFailure::new("CreateContainerConfigError", message))?;
    let images = config.mounts.iter().filter(|mount| mount.image.is_some()).count();
    let created = step.cri("CreateContainer", runtime.create_container(&sandbox.id, config, sandbox_config)).await;
    let made = match &created {
        Ok(_) => Ok(()),
        Err(error) => Err(volumes::image::is_unmounted(error.message())),
    };
    metrics::images_mounted(images, made);
    let id = created.map_err(|error| {
        step.note_container(name, Note::warning("Failed", format!("Error: {}", error.message())));
        StepFailure::new("CreateContainerError", error.message())
    })?;
    step.note_container(name, Note::normal("Created", "Container created"));
    super::resize::started(step, name).await;
    if let Err(error) = step.cri("StartContainer", runtime.start_container(&id)).await {
        step.note_container(name, Note::warning("Failed", format!("Error: {}", error.message())));
        return Err(StepFailure::new("RunContainerError", error.message()));
    }
    step.note_container(name, Note::normal("Started", "Container started"));
    step.context.container_manager.started(&step.id.uid, name, placed.as_deref().unwrap_or_default());
    link_log(step, name, &id, attempt);
    forget_older_logs(step, name, attempt).await;
    post_start(step, &container, &id, sandbox.ips.first().map_or("", String::as_str)).await
}

/// Makes the images present that are mounted into a container; gives their ids by the names that the pod has for them.
async fn pull_mounted(
    step: &Step,
    container: &Container,
    references: &References,
    sandbox_attempt: u32,
) -> Result<BTreeMap<String, String>, StepFailure> {
    let mut ids = BTreeMap::new();
    for (_, source) in volumes::image::mounted(&step.pod, container) {
        let wanted = volumes::image::as_container(&container.name, source);
        let image = image::ensure(step, &wanted, references, sandbox_attempt).await?;
        ids.insert(source.reference.clone().unwrap_or_default(), image.id);
    }
    Ok(ids)
}

/// Tells of secrets for registries that are not there: the image may be had without.
fn note_missing_secrets(step: &Step, references: &References) {
    let is_there = |name: &String| references.secrets.get(name).is_some_and(Option::is_some);
    let missing: Vec<_> = images::pull_secrets(&step.pod).into_iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        let which = missing.join(", ");
        let message = format!("Unable to retrieve some image pull secrets ({which}); attempting to pull the image may not succeed.");
        step.note(Note::warning("FailedToRetrieveImagePullSecret", message));
    }
}

/// A pod's first packet must meet the rules of the network policies that select it. `is_new`: its sandbox has had no container yet.
async fn await_rules(step: &Step, addresses: &[String], is_new: bool) -> Result<(), StepFailure> {
    let ready = tokio::select! {
        biased;
        ready = step.context.gate.admit(&step.pod, addresses, is_new) => ready,
        () = step.cancel.cancelled() => return Err(StepFailure::new("ContainerCreating", "the pod stops")),
    };
    ready.map_err(|why| {
        let message = format!("network policies select the pod, and it is not started before they are enforced: {why}");
        step.note(Note::warning(NETWORK_NOT_READY, message.clone()));
        StepFailure::new(NETWORK_NOT_READY, message)
    })
}

/// A container must not start on volumes that somebody took away since they were set up: it would get empty ones.
async fn check_volumes(step: &Step) -> Result<(), StepFailure> {
    let (paths, pod) = (step.context.paths(&step.id.uid), step.pod.clone());
    let missing = blocking(move || disk::missing(&paths, &pod)).await;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StepFailure::new(VOLUMES_MISSING, format!("volumes {missing:?} are missing, they are set up again")))
    }
}

async fn post_start(step: &Step, container: &Container, id: &str, pod_ip: &str) -> Result<(), StepFailure> {
    let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else { return Ok(()) };
    let ran = tokio::select! {
        biased;
        ran = hooks::run(step, hook, container, id, pod_ip) => ran,
        // Whom it asks over the network may never answer. What it does in the container ends with that.
        () = step.cancel.cancelled() => return Ok(()),
    };
    let Err(message) = ran else { return Ok(()) };
    step.note_container(&container.name, Note::warning("FailedPostStartHook", "PostStartHook failed"));
    let grace = super::super::plan::spec_grace(&step.spec());
    super::takedown::kill(step, id, &container.name, grace, "FailedPostStartHook")
        .await
        .map_err(|error| StepFailure::new("PostStartHookError", error))?;
    Err(StepFailure::new("PostStartHookError", message))
}

/// The container's config, with its files made and parts of volumes bound.
async fn configure(
    step: &Step,
    container: &Container,
    references: &References,
    (image, mounted): (&proto::Image, &BTreeMap<String, String>),
    attempt: u32,
) -> Result<proto::ContainerConfig, String> {
    let context = &step.context;
    let user = ImageUser::of(image);
    verify_non_root(&step.pod, container, &user)?;
    let ips = context.pod_ips(&step.pod, &step.observed);
    let links = step.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let all = context.cluster.services(&step.id.namespace);
    let services = service_variables(all.iter().map(|service| &**service), &step.id.namespace, links);
    let paths = context.paths(&step.id.uid);
    let inputs = EnvInputs {
        pod: &step.pod,
        references,
        files: &files::read(&paths, volumes::volumes(&step.pod), container).await,
        services: &services,
        pod_ips: &ips,
        node_ips: &context.node_ips,
        machine: context.unreserved,
    };
    let env = environment(&inputs, container).map_err(|error| error.to_string())?;
    let mut planned = mounts(&paths, &step.pod, container, &env, attempt)?;
    volumes::image::resolve(&mut planned.mounts, mounted);
    make_recursively_read_only(step, container, &mut planned.mounts).await?;
    let termination = paths.termination_file(&container.name, attempt);
    let hosts = (paths.hosts_file(), hosts_text(step, &ips));
    let (wanted, name) = (planned.clone(), container.name.clone());
    blocking(move || make_files(&wanted, &name, &termination, &hosts)).await?;
    let target = target(step, &container.name)?;
    let inputs = ContainerInputs {
        attempt,
        target: target.as_deref(),
        image_ref: &image.id,
        image_user: &user,
        env: &env,
        mounts: planned.mounts,
        devices: block::devices(&paths, &step.pod, container)?,
        machine: context.machine,
        cpu_time: context.cpu_time,
        hugepages: &context.hugepages,
        masked_paths: &context.masked_paths,
        seccomp_root: &context.seccomp_root,
        seccomp_default: context.seccomp_default,
        stop_signals: context.stop_signals,
        users: context.user_namespaces.of(&step.id.uid),
    };
    let mut config = container_config(&step.pod, container, inputs)?;
    if let Some(resources) = config.linux.as_mut().and_then(|linux| linux.resources.as_mut()) {
        context.container_manager.place(&step.id.uid, &container.name, resources).await?;
    }
    let devices = context.dra.cdi_devices(&step.pod, container)?;
    device_plugins::apply(context.device_plugins.start(&step.pod, container).await?, &mut config);
    config.cdi_devices.extend(devices.into_iter().map(|name| proto::CdiDevice { name }));
    if !config.cdi_devices.is_empty() {
        knows_cdi(&context.runtime_name, &context.runtime_version.load())?;
    }
    Ok(config)
}

/// A runtime that knows nothing of CDI would start the container without its devices, silently.
fn knows_cdi(runtime: &str, version: &str) -> Result<(), String> {
    let numbers: Vec<u32> = version.rsplit(' ').next().unwrap_or_default().split('.').take(2).filter_map(|part| part.parse().ok()).collect();
    match (runtime, &numbers[..]) {
        ("containerd", [major, minor]) if (*major, *minor) < (1, 7) => {
            Err(format!("devices of claims are handed over by CDI, which {version} does not know"))
        }
        _ => Ok(()),
    }
}

/// The container whose processes an ephemeral one is to see.
fn target(step: &Step, name: &str) -> Result<Option<String>, String> {
    let visitor = step.pod.spec.as_ref().and_then(|spec| ephemeral::find(spec, name));
    let Some(wanted) = visitor.and_then(|visitor| visitor.target_container_name.as_deref()).filter(|wanted| !wanted.is_empty()) else {
        return Ok(None);
    };
    let found = step.observed.newest(wanted).map(|seen| seen.id.clone());
    found.map(Some).ok_or_else(|| format!("unable to find target container {wanted}"))
}

/// Of the mounts, those of the container's volumes come first and in its order.
async fn make_recursively_read_only(step: &Step, container: &Container, mounts: &mut [proto::Mount]) -> Result<(), String> {
    let wanted = container.volume_mounts.as_deref().unwrap_or_default();
    if wanted.iter().all(|wanted| wanted.recursive_read_only.is_none()) {
        return Ok(());
    }
    let able = step.context.features.load().recursive_read_only(&runtime_handler(step).await?);
    let runtime = step.context.runtime_version.load_full();
    for (wanted, mount) in wanted.iter().zip(mounts) {
        mount.recursive_read_only =
            recursive_read_only(wanted, able).map_err(|why| if why.ends_with("runtime") { format!("{why} {runtime}") } else { why })?;
    }
    Ok(())
}

fn hosts_text(step: &Step, ips: &[String]) -> String {
    let host_file = fs::read_to_string("/etc/hosts").unwrap_or_default();
    resolv::hosts_file(&step.pod, ips, &step.context.dns.domain, &host_file)
}

fn make_files(mounts: &Mounts, container: &str, termination: &Path, hosts: &(PathBuf, String)) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("failed to make files for container \"{container}\": {error}");
    make_termination_file(termination).map_err(failed)?;
    resolv::write_hosts(&hosts.0, &hosts.1).map_err(failed)?;
    mounts.subpaths.iter().try_for_each(|part| {
        let bound = subpath::bind(&part.volume, &part.sub, &part.target);
        bound.map_err(|error| format!("failed to prepare subPath for volumeMount \"{}\" of container \"{container}\": {error}", part.name))
    })
}

/// An empty file that every user of the container may write, and nobody reach but through it.
fn make_termination_file(path: &Path) -> std::io::Result<()> {
    let (folder, name) = place_and_name(path)?;
    let folder = Directory::make(folder, 0o700)?;
    folder.remove_file(name)?;
    folder.create(name, 0o666).map(drop)
}

/// The logs of containers that the runtime has forgotten are removed by nobody else.
async fn forget_older_logs(step: &Step, name: &str, attempt: u32) {
    if attempt < 2 {
        return;
    }
    let (logs, container) = (step.id.log_directory(&step.context.log_root), name.to_owned());
    let kept = step.observed.containers.iter().filter(|seen| seen.name == name).map(|seen| seen.attempt).collect();
    if let Err(error) = blocking(move || forget_older(&logs, &container, attempt, &kept)).await {
        tracing::warn!(%error, pod = step.id.name, container = name, "old logs not removed");
    }
}

/// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, which log collectors read.
fn link_log(step: &Step, name: &str, id: &str, attempt: u32) {
    let links = &step.context.container_log_links;
    if links.as_os_str().is_empty() {
        return;
    }
    let target = step.id.log_directory(&step.context.log_root).join(names::container_log_path(name, attempt));
    let linked = fs::create_dir_all(links).and_then(|()| std::os::unix::fs::symlink(target, links.join(legacy_log_name(&step.id, name, id))));
    if let Err(error) = linked {
        tracing::warn!(%error, container = id, "log not linked");
    }
}
