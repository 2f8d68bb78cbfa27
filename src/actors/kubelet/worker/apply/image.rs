//! A container's image: looked for on this node, or pulled with the credentials that the pod has.

use std::time::{Duration, Instant};

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
    let present = wish.inspect().await?;
    match (images::pull_policy(container), present) {
        (PullPolicy::Never | PullPolicy::IfNotPresent, Some(image)) => {
            let text = format!("Container image \"{wanted}\" already present on machine and can be accessed by the pod");
            step.note_container(&container.name, Note::normal("Pulled", text));
            Ok(image)
        }
        (PullPolicy::Never, None) => {
            let message = format!("Container image \"{wanted}\" is not present with pull policy of Never");
            Err(wish.fail("ErrImageNeverPull", message))
        }
        _ => wish.pull(sandbox_attempt).await,
    }
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
        self.note(Note::warning(if reason == "ErrImageNeverPull" { reason } else { "Failed" }, message.clone()));
        StepFailure::new(reason, message)
    }

    async fn inspect(&self) -> Result<Option<proto::Image>, StepFailure> {
        let found = self.step.context.runtime.image_status(&self.name).await;
        found.map_err(|error| self.fail("ImageInspectError", format!("Failed to inspect image \"{}\": {error}", self.wanted)))
    }

    /// All that the pod may show the image's registry: what its secrets have, and then what providers of this node know.
    async fn credentials(&self) -> Vec<Credential> {
        let (pod, image) = (&self.step.pod, images::repository(self.wanted));
        let names = images::pull_secrets(pod);
        let secrets = names.iter().filter_map(|name| self.references.secrets.get(name)?.as_deref());
        let mut found = secrets::keyring(secrets).lookup(&image);
        let accounts = PodAccounts { context: &self.step.context, pod, tokens: &self.step.tokens };
        let asked = Asked { image: &image, namespace: &self.step.id.namespace, account: account_name(pod), accounts: &accounts };
        found.extend(self.step.context.credential_providers.keyring(asked).await.lookup(&image));
        found
    }

    async fn pull(&self, sandbox_attempt: u32) -> Result<proto::Image, StepFailure> {
        let wanted = self.wanted;
        self.note(Note::normal("Pulling", format!("Pulling image \"{wanted}\"")));
        let began = Instant::now();
        let config = self.step.sandbox_config(sandbox_attempt).map_err(|message| StepFailure::new("CreateContainerConfigError", message))?;
        let pulled = tokio::select! {
            biased;
            pulled = self.pull_in_turn(config) => pulled,
            () = self.step.cancel.cancelled() => return Err(StepFailure::new("ContainerCreating", "the pod stops")),
        };
        let waited = pulled.map_err(|error| {
            self.note(Note::warning("Failed", format!("Failed to pull image \"{wanted}\": {error}")));
            self.note(Note::warning("Failed", "Error: ErrImagePull"));
            StepFailure::new("ErrImagePull", error)
        })?;
        let gone = || self.fail("ImageInspectError", format!("image \"{wanted}\" is gone after it was pulled"));
        let image = self.inspect().await?.ok_or_else(gone)?;
        let whole = began.elapsed();
        let (took, whole) = (whole.saturating_sub(waited).as_millis(), whole.as_millis());
        let text = format!("Successfully pulled image \"{wanted}\" in {took}ms ({whole}ms including waiting). Image size: {} bytes.", image.size);
        self.note(Note::normal("Pulled", text));
        Ok(image)
    }

    /// Pulls when others let it; gives how long it waited for them.
    async fn pull_in_turn(&self, config: proto::PodSandboxConfig) -> Result<Duration, String> {
        let credentials = self.credentials().await;
        let (_slot, waited) = self.step.context.pulls.admit().await?;
        self.try_each(credentials, config).await?;
        Ok(waited)
    }

    /// Pulls with the first credential that the registry takes, or with none where there is none; gives that.
    async fn try_each(&self, credentials: Vec<Credential>, config: proto::PodSandboxConfig) -> Result<Option<Credential>, String> {
        let tries: Vec<_> = if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
        let mut failures: Vec<String> = Vec::new();
        for credential in tries {
            let auth = credential.as_ref().map(|credential| credential.auth.clone());
            let pull = self.step.context.runtime.pull_image(&self.name, auth, config.clone());
            match self.step.cri("PullImage", pull).await {
                Ok(_) => return Ok(credential),
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
