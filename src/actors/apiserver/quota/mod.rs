//! Quota: charged with the write, given back if the write fails.
//!
//! Every write that costs something asks the [`ledger`], which spends the namespace's quotas by compare-and-swap of
//! their status before the write commits: no two servers on one store spend the same unit. Usage goes down only when
//! the quota controller counts again.

mod ledger;
mod plan;

use std::{sync::Arc, time::Duration};

use troupe_api::{
    meta::{Clock, GroupResource, Object},
    quota::{self, Demand, Evaluator, LimitedResource, Uncovered, Write},
    service::Listers,
    status::{Reason, Status},
};
use troupe_api_server::admission::Operation;

use self::ledger::{Charge, Refund};
pub use self::ledger::{Charged, Ledger};
use super::{commit::CommitError, listers::CacheListers, writer::Writer};
use crate::runtime::host::UnitAddr;

/// How long a write waits for its charge, as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// The quotas of namespaces, as writes are charged to them.
pub struct Quota {
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
    ledger: UnitAddr<Ledger>,
    /// What nobody may consume without a quota for it; `None` where the plugin of this name does not run.
    limited: Option<Vec<LimitedResource>>,
}

impl Quota {
    pub fn new(listers: Arc<CacheListers>, clock: Arc<dyn Clock>, ledger: UnitAddr<Ledger>, limited: Option<Vec<LimitedResource>>) -> Self {
        Quota { listers, clock, ledger, limited }
    }

    /// Charges a write to the quotas of its namespace. Keep the charged until the write is decided.
    ///
    /// # Errors
    /// 403 when a quota has no room for it, or cannot tell; 503 when not all quotas can be read.
    pub async fn charge(&self, writer: &Writer, operation: Operation, new: &Object, old: Option<&Object>) -> Result<Charged, Status> {
        let target = &writer.target;
        let resource = target.group_resource();
        let Some(limited) = self.limited.as_deref().filter(|_| !target.namespace.is_empty() && !quota::is_ignored(&resource)) else {
            return Ok(Charged::default());
        };
        let quotas = self.quotas(&target.namespace)?;
        if quotas.is_empty() && limited.is_empty() {
            return Ok(Charged::default());
        }
        let evaluator = Evaluator::of(&resource);
        if !evaluator.handles(operation, &target.subresource, new, old) {
            return Ok(Charged::default());
        }
        let forbidden = |why: String| Status::forbidden(&resource, new.name(), why);
        let write = Write { evaluator: &evaluator, operation, new, old };
        let now = self.clock.now();
        let demands = quota::demands(&quotas, write, now).map_err(forbidden)?;
        match quota::uncovered(limited, &resource, &quotas, write, now) {
            Some(Uncovered::Resources(names)) => return Err(forbidden(format!("insufficient quota to consume: {}", names.join(",")))),
            // Upstream does not say that it is forbidden, either.
            Some(Uncovered::Scopes(scopes)) => {
                return Err(Status::new(500, Reason::Unknown, format!("insufficient quota to match these scopes: {scopes}")));
            }
            None => {}
        }
        let enforce = &*target.subresource != "status";
        if demands.is_empty() {
            return Ok(Charged::default());
        }
        if writer.options.dry_run {
            return if enforce { would_fit(&quotas, &demands).map_err(forbidden) } else { Ok(Charged::default()) };
        }
        let charge = Charge { namespace: target.namespace.clone(), demands, enforce };
        self.spend(charge, writer).await?.map_err(|refusal| match refusal {
            plan::Refusal::Exceeded(why) => forbidden(why),
            plan::Refusal::Failed(status) => status,
        })
    }

    async fn spend(&self, charge: Charge, writer: &Writer) -> Result<Result<Charged, plan::Refusal>, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.ledger.ask(charge, writer.cause.clone())).await;
        let answer = answer.map_err(|_| Status::internal("resource quota evaluation timed out"))?;
        answer.map_err(|error| Status::internal(format!("resource quota evaluation failed: {error}")))
    }

    /// Gives back what a write was charged that did not happen. Where that is not sure, the controller's next count decides.
    pub fn refund(&self, writer: &Writer, charged: Charged, error: &CommitError) {
        if charged.is_empty() || matches!(error, CommitError::Unclear(_)) {
            return;
        }
        let refund = Refund { namespace: writer.target.namespace.clone(), charged };
        if let Err(error) = self.ledger.try_tell(refund, writer.cause.clone()) {
            tracing::debug!(%error, "cannot refund a quota, the next count will");
        }
    }

    fn quotas(&self, namespace: &str) -> Result<Vec<Object>, Status> {
        let resource = GroupResource::new("", "resourcequotas");
        self.listers.require(&resource)?;
        Ok(self.listers.list(&resource, namespace).iter().map(|quota| quota.to_object()).collect())
    }
}

fn would_fit(quotas: &[Object], demands: &[Demand]) -> Result<Charged, String> {
    for demand in demands {
        let quota = quotas.iter().find(|quota| quota.name() == demand.quota);
        let refusal = quota.and_then(|quota| quota::exceeded(&demand.quota, &demand.amounts, &quota::used(quota), &quota::hard(quota)));
        if let Some(why) = refusal {
            return Err(why);
        }
    }
    Ok(Charged::default())
}
