//! What a worker writes to the API: its pod's status, and in the end that nothing of the pod is left.

use std::time::Duration;

use super::PodWorker;
use crate::{
    kubelet::{
        metrics,
        status::writer::{is_overwritten, is_shown, status_patch},
    },
    runtime::host::UnitContext,
};

impl PodWorker {
    /// One write at a time, always of the newest status.
    pub(super) fn write_status(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.writing {
            return;
        }
        let Some((pod, status)) = self.machine.pod().cloned().zip(self.unwritten.take()) else { return self.finish(cx) };
        let told = self.written.as_ref().map(|written| *written == status);
        if told != Some(false) && is_shown(&pod, &status) || told == Some(true) && !is_overwritten(&pod, &status) {
            self.unwritten_since = None;
            return self.finish(cx);
        }
        self.writing = true;
        let (context, before) = (self.context.clone(), self.written.clone());
        let step = cx.begin_step(&self.news.cause(cx.system()));
        let cause = step.next.clone();
        let work = async move {
            let patch = status_patch(&pod, &status, before.as_deref());
            let written = context.cluster.patch_status(&pod, &patch, cause).await;
            (status, written)
        };
        cx.spawn_then(work, move |worker, (status, written), cx| {
            cx.end_step("WriteStatus", &step, written.is_ok());
            worker.writing = false;
            match written {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(pod = worker.machine.id.name, %error, "status not written");
                    // The last word of a pod that is gone is not worth keeping it for ever.
                    if !(worker.finishing && is_refusal(&error)) {
                        worker.unwritten.get_or_insert(status);
                        return worker.write_later(cx);
                    }
                    worker.write_status(cx);
                }
                _ => {
                    worker.written = Some(status);
                    if let Some(since) = worker.unwritten_since.take_if(|_| worker.unwritten.is_none()) {
                        metrics::status_written(since.elapsed());
                    }
                    worker.write_status(cx);
                }
            }
        });
    }

    /// One timer, however many writes fail.
    pub(super) fn write_later(&mut self, cx: &mut UnitContext<'_, Self>) {
        if !std::mem::replace(&mut self.retrying, true) {
            cx.after(Duration::from_secs(1), |worker, cx| {
                worker.retrying = false;
                worker.write_status(cx);
            });
        }
    }

    /// Ends the pod in the API, after its last status is written there.
    pub(super) fn finish(&mut self, cx: &mut UnitContext<'_, Self>) {
        if !self.finishing || self.writing || self.unwritten.is_some() {
            return;
        }
        self.finishing = false;
        let (context, pod) = (self.context.clone(), self.machine.pod().cloned());
        let step = cx.begin_step(&self.news.cause(cx.system()));
        let cause = step.next.clone();
        let work = async move {
            match pod {
                Some(pod) => context.cluster.finish_deletion(&pod, cause).await,
                None => Ok(()),
            }
        };
        cx.spawn_then(work, move |worker, finished, cx| {
            cx.end_step("FinishDeletion", &step, finished.is_ok());
            match finished {
                Ok(()) => (worker.when_gone)(&worker.machine.id),
                Err(error) => {
                    tracing::warn!(pod = worker.machine.id.name, %error, "pod not removed from the API");
                    cx.after(Duration::from_secs(1), |worker, cx| {
                        worker.finishing = true;
                        worker.finish(cx);
                    });
                }
            }
        });
    }
}

/// The API will never take this.
fn is_refusal(error: &troupe_api::Status) -> bool {
    matches!(error.code, 400 | 413 | 422)
}
