//! The controller: every Widget has a map that it owns and one that it does not, which a finalizer takes away, and a status.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        Controller,
        controller::Action,
        finalizer::{Error as FinalizerError, Event, finalizer},
        watcher,
    },
};
use serde_json::json;

/// Where a pod's script leaves what its account has.
pub const TOKEN: &str = "OPERATOR_TOKEN";
pub const AUTHORITY: &str = "OPERATOR_AUTHORITY";
pub const NAME: &str = "OPERATOR_NAME";
pub const NAMESPACE: &str = "OPERATOR_NAMESPACE";

const FINALIZER: &str = "example.com/outer";
const MANAGER: &str = "widget-operator";

/// The client of the pod's account, and the pod's name.
pub async fn connect() -> (Client, String) {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this runs in a pod of a test"));
    let server = format!("https://{}:{}", variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": {"server": server, "certificate-authority-data": variable(AUTHORITY)}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": variable(NAMESPACE)}}],
        "users": [{"name": "pod", "user": {"token": variable(TOKEN)}}],
    }))
    .expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    (Client::try_from(config).expect("a client"), variable(NAME))
}

struct Context {
    client: Client,
    own: Arc<str>,
}

type Failed = FinalizerError<kube::Error>;

fn widgets() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"))
}

/// Keeps all Widgets as they should be, as long as it is polled.
pub async fn reconcile_all(client: Client, own: Arc<str>) {
    let (resource, of) = (widgets(), watcher::Config::default());
    let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let controller = Controller::new_with(api, of, resource).owns(maps, watcher::Config::default());
    let context = Arc::new(Context { client, own });
    let retry = |_: Arc<DynamicObject>, failed: &Failed, _: Arc<Context>| {
        println!("will retry: {failed}");
        Action::requeue(Duration::from_secs(1))
    };
    let told = controller.run(reconcile, retry, context).for_each(|outcome| {
        if let Err(error) = outcome {
            println!("the controller goes on after: {error:?}");
        }
        std::future::ready(())
    });
    told.await;
}

async fn reconcile(widget: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Failed> {
    let api: Api<DynamicObject> = Api::default_namespaced_with(context.client.clone(), &widgets());
    let context = &*context;
    finalizer(&api, FINALIZER, widget, |event| async move {
        match event {
            Event::Apply(widget) => provide(&widget, context).await,
            Event::Cleanup(widget) => clean_up(&widget, context).await,
        }
    })
    .await
}

async fn provide(widget: &DynamicObject, context: &Context) -> Result<Action, kube::Error> {
    let (maps, name) = (Api::<ConfigMap>::default_namespaced(context.client.clone()), widget.name_any());
    let count = widget.data["spec"]["count"].as_i64().unwrap_or_default();
    let apply = PatchParams::apply(MANAGER).force();
    for place in ["inner", "outer"] {
        let own = format!("{place}-{name}");
        let owners = widget.controller_owner_ref(&widgets()).filter(|_| place == "inner");
        let owners: Vec<_> = owners.into_iter().collect();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"count": count.to_string()},
            "metadata": {"name": own, "labels": {"of": "widget"}, "ownerReferences": owners}});
        maps.patch(&own, &apply, &Patch::Apply(map)).await?;
    }
    let api: Api<DynamicObject> = Api::default_namespaced_with(context.client.clone(), &widgets());
    let status = json!({"status": {"count": count, "observedGeneration": widget.metadata.generation, "by": &*context.own}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(Action::requeue(Duration::from_secs(60)))
}

async fn clean_up(widget: &DynamicObject, context: &Context) -> Result<Action, kube::Error> {
    let maps = Api::<ConfigMap>::default_namespaced(context.client.clone());
    match maps.delete(&format!("outer-{}", widget.name_any()), &DeleteParams::default()).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}
