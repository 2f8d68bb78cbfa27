//! What nobody in particular can do: very little, and cheaply.

use crate::{caller::Caller, stage};

/// `DeleteOptions` as YAML whose aliases repeat one long text many times.
fn aliases(count: usize) -> String {
    let text = "x".repeat(2000);
    format!("first: &a {text}\ndryRun: [{}]\n", vec!["*a"; count].join(","))
}

#[test]
fn a_delete_of_nobodys_with_a_bomb_of_aliases_costs_nothing() {
    let stage = stage::shared();
    let nobody = Caller::nobody(&stage);
    let bomb = aliases(300_000);
    let send = || nobody.send("DELETE", "/api/v1/namespaces/default/pods/none", "application/yaml", &bomb);
    assert_eq!(send().status, 403);
    let (reply, toll) = stage.attack(send);
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(toll.memory < 16 << 20, "{toll:?}");
}
