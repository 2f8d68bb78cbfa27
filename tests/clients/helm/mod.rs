//! helm, and charts as people write them.

mod application;
mod widgets;

use std::path::{Path, PathBuf};

pub use application::scales_and_keeps_its_data;
pub use widgets::lives_with_a_chart;

use crate::{
    cluster::{Cluster, text},
    downloads,
};

/// The newest one that is to be had.
const MINOR: u16 = 37;

/// helm, for one chart in one namespace.
struct Helm<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    namespace: &'static str,
    chart: PathBuf,
    /// What is set whenever the chart is named.
    settings: Vec<String>,
}

impl<'a> Helm<'a> {
    /// For the chart in a folder of this one.
    fn of(cluster: &'a Cluster, namespace: &'static str, chart: &str) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/helm").join(chart);
        Helm { cluster, program: downloads::helm(MINOR), namespace, chart, settings: Vec::new() }
    }

    fn with(mut self, setting: String) -> Self {
        self.settings.push(setting);
        self
    }

    /// Runs a command that must succeed and returns what it prints; `CHART` stands for the chart and its settings.
    fn run(&self, words: &str) -> String {
        let mut command = self.cluster.inside(&self.program.to_string_lossy());
        command.env("KUBECONFIG", self.cluster.kubeconfig()).env("HOME", self.cluster.dir()).args(["--namespace", self.namespace]);
        for word in words.split_whitespace() {
            match word {
                "CHART" => {
                    command.arg(&self.chart);
                    self.settings.iter().for_each(|setting| {
                        command.arg("--set").arg(setting);
                    });
                }
                word => {
                    command.arg(word);
                }
            }
        }
        let output = command.output().expect("helm runs");
        assert!(output.status.success(), "helm {words} failed:\n{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}
