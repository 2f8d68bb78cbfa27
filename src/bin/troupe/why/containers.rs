//! Why the containers of a pod do not run, or are not ready. Pure.

use serde_json::Value;

use super::{
    pod::Facts,
    report::Reason,
    tree::{age, items, newest, span, text},
    warnings::{Happened, is_fresh},
};

/// One reason for each container that is not as it should be.
pub fn explain(facts: &Facts) -> Vec<Reason> {
    let pod = &facts.pod;
    let init = items(&pod["status"]["initContainerStatuses"]).find_map(|status| init(facts, status));
    if let Some(reason) = init {
        // The others wait for this one.
        return vec![reason];
    }
    items(&pod["status"]["containerStatuses"]).filter_map(|status| main(facts, status)).collect()
}

fn init(facts: &Facts, status: &Value) -> Option<Reason> {
    let name = text(&status["name"]);
    let spec = items(&facts.pod["spec"]["initContainers"]).find(|container| container["name"] == name)?;
    let sidecar = spec["restartPolicy"] == "Always";
    let state = &status["state"];
    if state["terminated"]["exitCode"] == 0 || (sidecar && status["started"] == true) {
        return None;
    }
    let told = waiting(facts, status).or_else(|| ended(facts, status));
    Some(told.map_or_else(
        || {
            let since = age(&state["running"]["startedAt"], facts.now).map(span).unwrap_or_default();
            let what = if sidecar { "has not passed its startup probe" } else { "has not ended" };
            Reason::new(format!("init container {name} {what} (running for {since}); the others start after it")).details(facts.log_of(name))
        },
        |reason| Reason { what: format!("init {}", reason.what), ..reason },
    ))
}

fn main(facts: &Facts, status: &Value) -> Option<Reason> {
    let running = status["state"]["running"].is_object();
    match (running, status["ready"] == true) {
        (true, true) => None,
        (true, false) => Some(unready(facts, status)),
        (false, _) => waiting(facts, status).or_else(|| ended(facts, status)),
    }
}

fn waiting(facts: &Facts, status: &Value) -> Option<Reason> {
    let waiting = status["state"]["waiting"].as_object()?;
    let name = text(&status["name"]);
    let reason = waiting.get("reason").map_or("", text);
    let message = waiting.get("message").map_or("", text);
    Some(match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => image(status, name, reason, message),
        "CrashLoopBackOff" => crash(facts, status),
        "" | "ContainerCreating" | "PodInitializing" => creating(facts, name),
        _ => Reason::new(format!("container {name} cannot be started: {reason}")).quotes(message),
    })
}

fn image(status: &Value, name: &str, reason: &str, message: &str) -> Reason {
    let image = text(&status["image"]);
    let hint = match reason {
        "ErrImageNeverPull" => "import the image on the node, or let imagePullPolicy be IfNotPresent",
        "InvalidImageName" => "correct the image's name",
        _ if message.contains("not found") => "check name and tag; kubectl set image … corrects it",
        _ if message.contains("authorization") || message.contains("401") || message.contains("403") => {
            "the registry wants a login: imagePullSecrets"
        }
        _ => "check the image's name, and that the node reaches the registry",
    };
    Reason::new(format!("container {name}: image {image} cannot be had ({reason})")).quotes(message).hint(hint)
}

/// A container that starts and ends again and again.
fn crash(facts: &Facts, status: &Value) -> Reason {
    let name = text(&status["name"]);
    let restarts = status["restartCount"].as_i64().unwrap_or(0);
    let last = &status["lastState"]["terminated"];
    let until = text(&status["state"]["waiting"]["message"])
        .split_whitespace()
        .nth(1)
        .map(|delay| format!(", the next try {delay} after the last"))
        .unwrap_or_default();
    let killed = newest(&facts.events, &["Killing"])
        .map(|event| text(&event["message"]))
        .filter(|message| message.contains(name) && message.contains("probe"));
    let reason = Reason::new(format!("container {name} crashes: {} ({restarts} restarts{until})", exit(last)))
        .quotes(killed.unwrap_or_default())
        .details(facts.log_of(name));
    match hint(last) {
        Some(hint) => reason.hint(hint),
        None => reason.hint(format!("kubectl logs {} -c {name} --previous shows all of its last words", facts.name())),
    }
}

fn ended(facts: &Facts, status: &Value) -> Option<Reason> {
    let ended = &status["state"]["terminated"];
    if !ended.is_object() || ended["exitCode"] == 0 {
        return None;
    }
    let name = text(&status["name"]);
    let reason = Reason::new(format!("container {name} ended: {}", exit(ended))).quotes(text(&ended["message"])).details(facts.log_of(name));
    Some(match hint(ended) {
        Some(hint) => reason.hint(hint),
        None => reason,
    })
}

/// How containers that run again ended before. A failure of the last minutes tells of the present, however well the container does by now; what
/// ended well, or longer ago, is over. One that is not ready tells of it with what it lacks.
pub fn last_ends(facts: &Facts) -> Happened {
    let mut told = Happened::default();
    let statuses = items(&facts.pod["status"]["initContainerStatuses"]).chain(items(&facts.pod["status"]["containerStatuses"]));
    for status in statuses.filter(|status| status["ready"] == true) {
        let Some(line) = last_end(facts, status) else { continue };
        let last = &status["lastState"]["terminated"];
        if last["exitCode"] == 0 || !is_fresh(age(&last["finishedAt"], facts.now)) {
            told.earlier.push(line);
            continue;
        }
        let look = format!("kubectl logs {} -c {} --previous shows its last words", facts.name(), text(&status["name"]));
        told.fresh.push(Reason::new(line).quotes(text(&last["message"])).hint(hint(last).unwrap_or(look)));
    }
    told
}

/// How a container that runs ended before, if it did.
fn last_end(facts: &Facts, status: &Value) -> Option<String> {
    let last = &status["lastState"]["terminated"];
    if !last.is_object() || !status["state"]["running"].is_object() {
        return None;
    }
    let how = match (text(&last["reason"]), last["exitCode"].as_i64()) {
        (reason @ "OOMKilled", Some(code)) => format!("{} ({reason}, exit code {code})", exit(last)),
        ("", _) => exit(last),
        (reason, _) => format!("{} ({reason})", exit(last)),
    };
    let ago = age(&last["finishedAt"], facts.now).map(|age| format!(" {} ago", span(age))).unwrap_or_default();
    Some(format!("container {} runs again after it ended{ago}: {how}", text(&status["name"])))
}

fn exit(terminated: &Value) -> String {
    let code = terminated["exitCode"].as_i64();
    match (text(&terminated["reason"]), code) {
        ("OOMKilled", _) => "killed because it used more memory than its limit".into(),
        ("StartError" | "ContainerCannotRun", _) => format!("it cannot be started: {}", text(&terminated["message"])),
        (_, Some(code @ 129..=165)) => format!("exit code {code} (signal {})", code - 128),
        (_, Some(code)) => format!("exit code {code}"),
        _ => "it ended".into(),
    }
}

fn hint(terminated: &Value) -> Option<String> {
    let hint = match (text(&terminated["reason"]), terminated["exitCode"].as_i64()) {
        ("OOMKilled", _) => "raise resources.limits.memory, or find what takes the memory",
        (_, Some(126)) => "126: the command is not executable",
        (_, Some(127)) => "127: the command was not found",
        (_, Some(0)) => "a main container that ends well is started again too: restartPolicy OnFailure, or a Job, if it should end",
        _ => return None,
    };
    Some(hint.into())
}

/// Nothing is wrong yet, unless an event says so.
fn creating(facts: &Facts, name: &str) -> Reason {
    let pulling = newest(&facts.events, &["Pulling", "Pulled", "Failed"]).filter(|event| event["reason"] == "Pulling");
    if let Some(event) = pulling {
        return Reason::new(format!("container {name} waits for its image")).quotes(text(&event["message"]));
    }
    let trouble = newest(
        &facts.events,
        &["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "NetworkNotReady", "FailedPrepareDynamicResources", "Failed"],
    );
    match trouble {
        Some(event) => {
            Reason::new(format!("container {name} waits: {}", text(&event["reason"]))).quotes(text(&event["message"])).hint(mount_hint(event))
        }
        None => Reason::new(format!("container {name} is being created")).details(facts.worker_says()),
    }
}

fn mount_hint(event: &Value) -> &'static str {
    let message = text(&event["message"]);
    match text(&event["reason"]) {
        "FailedMount" if message.contains("not found") => "create what is missing; the kubelet tries again by itself",
        "FailedCreatePodSandBox" => "the container runtime or the pod network refuses; see the node's log",
        _ => "the kubelet tries again by itself",
    }
}

/// It runs, but its probes do not let traffic come.
fn unready(facts: &Facts, status: &Value) -> Reason {
    let name = text(&status["name"]);
    let none = Value::Null;
    let spec = items(&facts.pod["spec"]["containers"]).find(|container| container["name"] == name).unwrap_or(&none);
    let startup = status["started"] != true && spec["startupProbe"].is_object();
    let (which, probe) = if startup { ("startup", &spec["startupProbe"]) } else { ("readiness", &spec["readinessProbe"]) };
    let since = age(&status["state"]["running"]["startedAt"], facts.now).map(span).unwrap_or_default();
    let before = last_end(facts, status);
    if !probe.is_object() {
        return Reason::new(format!("container {name} runs for {since} and is not ready yet")).details(before);
    }
    let failures: Vec<&Value> =
        facts.events.iter().filter(|event| text(&event["message"]).to_lowercase().starts_with(&format!("{which} probe"))).collect();
    let last = newest(&facts.events, &["Unhealthy"]).filter(|event| text(&event["message"]).to_lowercase().starts_with(which));
    let times: i64 = failures.iter().map(|event| event["count"].as_i64().unwrap_or(1)).sum();
    let reason = Reason::new(format!("container {name} runs for {since}, but its {which} probe ({}) has not succeeded", describe(probe)));
    let reason = reason.details(before);
    match last {
        Some(event) => reason.quotes(&format!("{} (failed {times} times)", text(&event["message"]).trim_end())),
        None => {
            let delay = probe["initialDelaySeconds"].as_i64().unwrap_or(0);
            reason.details((delay > 0).then(|| format!("it is first asked {delay}s after the start")))
        }
    }
}

fn describe(probe: &Value) -> String {
    let port = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(http) = probe["httpGet"].as_object() {
        let path = http.get("path").map_or("/", text);
        return format!("HTTP GET {path} at port {}", port(&probe["httpGet"]["port"]));
    }
    if probe["tcpSocket"].is_object() {
        return format!("TCP connect to port {}", port(&probe["tcpSocket"]["port"]));
    }
    if probe["grpc"].is_object() {
        return format!("gRPC health check at port {}", port(&probe["grpc"]["port"]));
    }
    let command: Vec<&str> = items(&probe["exec"]["command"]).map(text).collect();
    format!("command {}", command.join(" "))
}
