//! Pods that the kubelet starts, and those that have ended.

use std::time::Duration;

use tokio::sync::oneshot;
use troupe_api::meta::ObjectKey;

use super::{Phase, PolicyRouter};
use crate::{
    network_policy::{
        layout::PolicyOwner,
        messages::{Admit, Left},
        pod_rules::PlanRules,
    },
    rules::AwaitInstalled,
    runtime::{
        envelope::Reply,
        host::{On, UnitContext},
    },
};

/// How long a pod from a file waits for an API server to tell which policies there are: it may be one that the API server needs.
const STATIC_PATIENCE: Duration = Duration::from_secs(5);

impl On<Admit> for PolicyRouter {
    fn on(&mut self, admit: Admit, cx: &mut UnitContext<'_, Self>) -> Reply<Result<(), String>> {
        let (key, ips) = (admit.pod.key.clone(), admit.pod.ips.clone());
        // An address that was given out again is no other pod's any more, whatever the API still says.
        let mut changed = self.view.take_addresses(&ips, &key);
        self.view.set_admitted(&key, Some(admit.pod.clone()));
        changed.push(key.clone());
        match self.phase {
            Phase::Idle => return Reply::Now(Ok(())),
            Phase::Starting | Phase::Filling => {
                let (tell, told) = oneshot::channel();
                self.waiting.push(tell);
                let (router, cause) = (cx.address(), cx.cause().clone());
                return Reply::later(async move {
                    let patience = if admit.is_static { STATIC_PATIENCE } else { Duration::MAX };
                    let Ok(told) = tokio::time::timeout(patience, told).await else {
                        tracing::warn!(pod = %admit.pod.key, "nobody tells which network policies there are, a static pod starts without");
                        return Ok(());
                    };
                    told.map_err(|_| "the unit that leads network policies restarted".to_owned())?;
                    router.ask(admit, cause).await.map_err(|error| error.to_string())?
                });
            }
            Phase::Synced => changed.iter().for_each(|key| self.pod_changed(key, cx)),
        }
        let Some(pod) = self.view.pod(&key) else { return Reply::Now(Ok(())) };
        let deciding = self.view.deciding(&key.namespace);
        if !deciding.selects(&pod) {
            return Reply::Now(Ok(()));
        }
        if let Some(why) = &self.options.unable {
            return Reply::Now(Err(why.to_string()));
        }
        let (Some(unit), Some(table)) = (self.pods.get(&key).cloned(), self.table.clone()) else {
            return Reply::Now(Err("its rules are not planned yet".into()));
        };
        let cause = cx.cause().clone();
        let peers = deciding.cluster_peers(&pod).into_iter().filter_map(|id| Some((self.peers.get(&id)?.clone(), id)));
        let peers: Vec<_> = peers.collect();
        Reply::later(async move {
            // Whom a rule denies is kept out by no rule while its set is empty.
            for (peers, _) in &peers {
                peers.ask(PlanRules { report_anyway: false }, cause.clone()).await.map_err(|error| error.to_string())?;
            }
            for (_, id) in peers {
                let stands = table.ask(AwaitInstalled(PolicyOwner::Peers(id)), cause.clone()).await.map_err(|error| error.to_string())?;
                stands.map_err(|error| error.to_string())?;
            }
            // Its unit has planned when it answers, and the table has heard of that before it is asked.
            unit.ask(PlanRules { report_anyway: false }, cause.clone()).await.map_err(|error| error.to_string())?;
            let stands = table.ask(AwaitInstalled(PolicyOwner::Pod(key)), cause).await.map_err(|error| error.to_string())?;
            stands.map_err(|error| error.to_string())
        })
    }
}

impl On<Left> for PolicyRouter {
    fn on(&mut self, left: Left, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        let key = ObjectKey::new(left.namespace, left.name);
        self.view.leave(&key, &left.uid);
        if self.phase == Phase::Synced {
            self.pod_changed(&key, cx);
        }
        Reply::Now(())
    }
}
