//! A container's image: looked for on this node, where the pod may use what others pulled, or pulled with the credentials that the pod has.

use std::{
    io,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Container;
use troupe_cri::proto;

use super::{
    Step, StepFailure,
    accounts::{PodAccounts, account_name},
};
use crate::kubelet::{
    credentials::{Credential, provider::Asked, secrets},
    env::References,
    events::Note,
    images::{self, PullPolicy},
    pull_records::{
        Access, Check,
        metrics::{Checked, checked},
    },
};

/// Makes the image present by the container's pull policy.
pub(super) async fn ensure(step: &Step, container: &Container, references: &References, sandbox_attempt: u32) -> Result<proto::Image, StepFailure> {
    let wanted = container.image.as_deref().unwrap_or_default();
    let name = images::canonical(wanted).map_err(|message| {
        let message = format!("Failed to apply default image tag \"{wanted}\": {message}");
        step.note_container(&container.name, Note::warning("InspectFailed", message.clone()));
        StepFailure::new("InvalidImageName", message)
    })?;
    let wish = Wish { step, container, wanted, name, references };
    let (policy, present) = (images::pull_policy(container), wish.inspect().await?);
    if let Some(image) = present.as_ref().filter(|_| policy != PullPolicy::Always)
        && unless_stopped(step, wish.may_use(image)).await?
    {
        let text = format!("Container image \"{wanted}\" already present on machine and can be accessed by the pod");
        wish.note(Note::normal("Pulled", text));
        return Ok(image.clone());
    }
    if policy == PullPolicy::Never {
        // Whether it is here is nobody's business who may not use it.
        let message = format!("Container image \"{wanted}\" is not present with pull policy of Never");
        return Err(wish.fail("ErrImageNeverPull", message));
    }
    wish.pull(sandbox_attempt, present.as_ref().map(|image| image.id.as_str())).await
}

/// What something comes to, unless the pod is to stop before.
async fn unless_stopped<T>(step: &Step, work: impl Future<Output = T>) -> Result<T, StepFailure> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = step.cancel.cancelled() => Err(StepFailure::new("ContainerCreating", "the pod stops")),
    }
}

/// What a pull came to.
struct Pulled {
    /// The image as the runtime calls it.
    reference: String,
    /// What the registry took; `None` where it asked for nothing.
    credential: Option<Credential>,
    /// How long others pulled before.
    waited: Duration,
}

/// An image that a container is to have.
struct Wish<'a> {
    step: &'a Step,
    container: &'a Container,
    /// As the pod's spec calls it.
    wanted: &'a str,
    /// The same with its tag spelled out.
    name: String,
    references: &'a References,
}

impl Wish<'_> {
    fn note(&self, note: Note) {
        self.step.note_container(&self.container.name, note);
    }

    fn fail(&self, reason: &str, message: String) -> StepFailure {
        let event = match reason {
            "ErrImageNeverPull" => reason,
            "ImageInspectError" => "InspectFailed",
            _ => "Failed",
        };
        self.note(Note::warning(event, message.clone()));
        StepFailure::new(reason, message)
    }

    async fn inspect(&self) -> Result<Option<proto::Image>, StepFailure> {
        self.inspect_named(&self.name).await
    }

    async fn inspect_named(&self, name: &str) -> Result<Option<proto::Image>, StepFailure> {
        let found = self.step.context.runtime.image_status(name).await;
        found.map_err(|error| self.fail("ImageInspectError", format!("Failed to inspect image \"{}\": {error}", self.wanted)))
    }

    /// All that the pod may show the image's registry: what its secrets have, then configurations of clients on this node, then what its providers
    /// know.
    async fn credentials(&self) -> Vec<Credential> {
        let (pod, image) = (&self.step.pod, images::repository(self.wanted));
        let names = images::pull_secrets(pod);
        let secrets = names.iter().filter_map(|name| self.references.secrets.get(name)?.as_deref());
        let mut found = secrets::keyring(secrets).lookup(&image);
        found.extend(self.step.context.registry_clients.keyring().await.lookup(&image));
        let accounts = PodAccounts { context: &self.step.context, pod, tokens: &self.step.tokens };
        let asked = Asked { image: &image, namespace: &self.step.id.namespace, account: account_name(pod), accounts: &accounts };
        found.extend(self.step.context.credential_providers.keyring(asked).await.lookup(&image));
        found
    }

    /// Whether the pod may use an image that is here, as far as records of pulls tell.
    async fn may_use(&self, image: &proto::Image) -> bool {
        let records = &self.step.context.pull_records;
        let known = match records.check(self.wanted, &image.id).await {
            Check::Allowed => return true,
            Check::Refused => return false,
            Check::Restricted(known) => known,
        };
        match known.access(&self.credentials().await) {
            Access::Denied => {
                checked(Checked::Unknown);
                false
            }
            Access::Granted(learnt) => {
                checked(Checked::Record);
                if let Some(learnt) = learnt {
                    records.learn(self.wanted, &image.id, learnt).await;
                }
                true
            }
        }
    }

    /// Pulls the image; `before` is the one that has its name now.
    async fn pull(&self, sandbox_attempt: u32, before: Option<&str>) -> Result<proto::Image, StepFailure> {
        let wanted = self.wanted;
        self.note(Note::normal("Pulling", format!("Pulling image \"{wanted}\"")));
        let began = Instant::now();
        let config = self.step.sandbox_config(sandbox_attempt).map_err(|message| StepFailure::new("CreateContainerConfigError", message))?;
        let begun = self.step.context.pull_records.begin(wanted, before).await;
        let unnoted =
            |error: io::Error| self.fail("ErrImagePull", format!("Failed to record image pull intent for container image \"{wanted}\": {error}"));
        let intent = begun.map_err(unnoted)?;
        // Where the pod stops meanwhile nobody knows what the pull comes to: the intent is dropped.
        let Pulled { reference, credential, waited } = match unless_stopped(self.step, self.pull_in_turn(config)).await? {
            Ok(pulled) => pulled,
            Err(error) => {
                intent.failed().await;
                self.note(Note::warning("Failed", format!("Failed to pull image \"{wanted}\": {error}")));
                return Err(StepFailure::new("ErrImagePull", error));
            }
        };
        // By its name another pull may have put another one in its place.
        let exact = if reference.is_empty() { None } else { self.inspect_named(&reference).await? };
        let image = match exact {
            None => self.inspect().await?,
            exact => exact,
        };
        let image = image.ok_or_else(|| self.fail("ImageInspectError", format!("image \"{wanted}\" is gone after it was pulled")))?;
        intent.pulled(&image.id, credential.as_ref()).await;
        let whole = began.elapsed();
        let (took, whole) = (whole.saturating_sub(waited).as_millis(), whole.as_millis());
        let text = format!("Successfully pulled image \"{wanted}\" in {took}ms ({whole}ms including waiting). Image size: {} bytes.", image.size);
        self.note(Note::normal("Pulled", text));
        Ok(image)
    }

    /// Pulls when others let it.
    async fn pull_in_turn(&self, config: proto::PodSandboxConfig) -> Result<Pulled, String> {
        let credentials = self.credentials().await;
        let (_slot, waited) = self.step.context.pulls.admit().await?;
        let (reference, credential) = self.try_each(credentials, config).await?;
        Ok(Pulled { reference, credential, waited })
    }

    /// Pulls with the first credential that the registry takes, or with none where there is none; gives the image and that.
    async fn try_each(&self, credentials: Vec<Credential>, config: proto::PodSandboxConfig) -> Result<(String, Option<Credential>), String> {
        let tries: Vec<_> = if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
        let mut failures: Vec<String> = Vec::new();
        for credential in tries {
            let auth = credential.as_ref().map(|credential| credential.auth.clone());
            let pull = self.step.context.runtime.pull_image(&self.name, auth, config.clone());
            match self.step.cri("PullImage", pull).await {
                Ok(reference) => return Ok((reference, credential)),
                Err(error) => failures.push(error.to_string()),
            }
        }
        failures.dedup();
        Err(match &failures[..] {
            [only] => only.clone(),
            all => format!("[{}]", all.join(", ")),
        })
    }
}
