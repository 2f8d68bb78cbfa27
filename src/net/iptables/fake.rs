//! A packet filter in memory that keeps the kernel's rules on what fails.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{IpSets, Iptables, IptablesError, Table};

type Chains = BTreeMap<String, Vec<String>>;

/// Records transactions and answers what stands after them.
#[derive(Debug)]
pub struct FakeIptables {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<Table, Chains>,
    sets: BTreeMap<String, Vec<String>>,
    transactions: Vec<String>,
    failures: usize,
    /// How often the rules were changed.
    generation: u64,
    hides_generation: bool,
    /// How often something was read whole.
    reads: usize,
}

impl Default for FakeIptables {
    fn default() -> Self {
        let built_in = |table| {
            let chains = match table {
                Table::Filter => ["INPUT", "FORWARD", "OUTPUT"].as_slice(),
                Table::Nat => ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"].as_slice(),
                Table::Mangle => ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].as_slice(),
                Table::Raw => ["PREROUTING", "OUTPUT"].as_slice(),
            };
            (table, chains.iter().map(|chain| ((*chain).to_owned(), Vec::new())).collect())
        };
        let tables = Table::ALL.map(built_in).into();
        FakeIptables { state: Mutex::new(State { tables, ..State::default() }) }
    }
}

impl FakeIptables {
    /// Makes the next `count` restores fail without effect.
    pub fn fail_next(&self, count: usize) {
        self.state.lock().failures = count;
    }

    /// Every restore text that took effect so far.
    pub fn transactions(&self) -> Vec<String> {
        self.state.lock().transactions.clone()
    }

    /// The rules of a chain; `None` when it does not exist.
    pub fn rules(&self, table: Table, chain: &str) -> Option<Vec<String>> {
        self.state.lock().tables[&table].get(chain).cloned()
    }

    /// The entries of a set; `None` when it does not exist.
    pub fn set(&self, name: &str) -> Option<Vec<String>> {
        self.state.lock().sets.get(name).cloned()
    }

    /// Loses every rule and every chain but the built-in ones, as somebody's `iptables -F; iptables -X` would.
    pub fn flush(&self) {
        let mut state = self.state.lock();
        state.tables = FakeIptables::default().state.into_inner().tables;
        state.generation += 1;
    }

    /// Tells no generation from now on, as an older packet filter.
    pub fn hide_generation(&self) {
        self.state.lock().hides_generation = true;
    }

    /// How often a table, a set or all sets were read.
    pub fn reads(&self) -> usize {
        self.state.lock().reads
    }
}

#[async_trait]
impl Iptables for FakeIptables {
    async fn restore(&self, text: String) -> Result<(), IptablesError> {
        let mut state = self.state.lock();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(failed("line 1 failed"));
        }
        let mut tables = state.tables.clone();
        apply(&mut tables, &text)?;
        check_sets(&tables, &state.sets)?;
        state.tables = tables;
        state.generation += 1;
        state.transactions.push(text);
        Ok(())
    }

    async fn save(&self, table: Table) -> Result<String, IptablesError> {
        let mut state = self.state.lock();
        state.reads += 1;
        let mut out = format!("*{}\n", table.name());
        for chain in state.tables[&table].keys() {
            let policy = if is_built_in(chain) { "ACCEPT" } else { "-" };
            out.push_str(&format!(":{chain} {policy} [0:0]\n"));
        }
        for (chain, rules) in &state.tables[&table] {
            rules.iter().for_each(|rule| out.push_str(&format!("-A {chain} {rule}\n")));
        }
        out.push_str("COMMIT\n");
        Ok(out)
    }

    async fn chain_exists(&self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        Ok(self.rules(table, chain).is_some())
    }

    async fn rule_exists(&self, table: Table, chain: &str, rule: &str) -> Result<bool, IptablesError> {
        Ok(self.rules(table, chain).is_some_and(|rules| rules.iter().any(|found| found == rule)))
    }

    async fn generation(&self) -> Option<u64> {
        let state = self.state.lock();
        (!state.hides_generation).then_some(state.generation)
    }
}

#[async_trait]
impl IpSets for FakeIptables {
    async fn restore_sets(&self, text: String) -> Result<(), IptablesError> {
        let mut state = self.state.lock();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(failed("Error in line 1"));
        }
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["create", name, ..] => drop(state.sets.entry((*name).to_owned()).or_default()),
                [command, name, rest @ ..] => {
                    let set = state.sets.get_mut(*name).ok_or_else(|| failed(format!("no set {name}: {line}")))?;
                    set.retain(|entry| *command != "flush" && Some(&entry.as_str()) != rest.first());
                    set.extend(rest.first().filter(|_| *command == "add").map(|entry| (*entry).to_owned()));
                }
                _ => return Err(failed(format!("bad line {line}"))),
            }
        }
        state.transactions.push(text);
        Ok(())
    }

    async fn save_sets(&self) -> Result<String, IptablesError> {
        let mut state = self.state.lock();
        state.reads += 1;
        Ok(state.sets.iter().map(|(name, entries)| printed(name, entries)).collect())
    }

    async fn save_set(&self, name: &str) -> Result<Option<String>, IptablesError> {
        let mut state = self.state.lock();
        state.reads += 1;
        Ok(state.sets.get(name).map(|entries| printed(name, entries)))
    }

    async fn destroy_sets(&self, names: Vec<String>) -> Result<(), IptablesError> {
        let mut state = self.state.lock();
        let mut left = state.sets.clone();
        left.retain(|name, _| !names.contains(name));
        check_sets(&state.tables, &left)?;
        state.sets = left;
        Ok(())
    }

    async fn fingerprint(&self, set: Option<&str>) -> Option<u64> {
        let state = self.state.lock();
        let mut hasher = DefaultHasher::new();
        match set {
            Some(name) => state.sets.get(name)?.hash(&mut hasher),
            None => state.sets.hash(&mut hasher),
        }
        (!state.hides_generation).then(|| hasher.finish())
    }
}

/// A set as `ipset save` prints it.
fn printed(name: &str, entries: &[String]) -> String {
    let add = entries.iter().map(|entry| format!("add {name} {entry}\n"));
    format!("create {name} hash:net family inet hashsize 1024\n") + &add.collect::<String>()
}

/// Every set that a rule names exists.
fn check_sets(tables: &BTreeMap<Table, Chains>, sets: &BTreeMap<String, Vec<String>>) -> Result<(), IptablesError> {
    for rule in tables.values().flat_map(|chains| chains.values().flatten()) {
        let set = rule.split_whitespace().skip_while(|word| *word != "--match-set").nth(1);
        if let Some(set) = set.filter(|set| !sets.contains_key(*set)) {
            return Err(failed(format!("set {set} does not exist but is referred to")));
        }
    }
    Ok(())
}

fn is_built_in(chain: &str) -> bool {
    matches!(chain, "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
}

fn failed(stderr: impl Into<String>) -> IptablesError {
    IptablesError::Failed { program: "iptables-restore", stderr: stderr.into() }
}

fn apply(tables: &mut BTreeMap<Table, Chains>, text: &str) -> Result<(), IptablesError> {
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            current = Some(table.ok_or_else(|| failed(format!("table {name} is unknown")))?);
            continue;
        }
        let chains = current.and_then(|table| tables.get_mut(&table)).ok_or_else(|| failed("no table"))?;
        if line == "COMMIT" {
            check_references(chains)?;
            current = None;
        } else {
            step(chains, line).map_err(|why| failed(format!("{why}: {line}")))?;
        }
    }
    if current.is_some() { Err(failed("COMMIT expected")) } else { Ok(()) }
}

fn step(chains: &mut Chains, line: &str) -> Result<(), &'static str> {
    if let Some(declared) = line.strip_prefix(':') {
        let name = declared.split_whitespace().next().unwrap_or_default();
        chains.insert(name.to_owned(), Vec::new());
        return Ok(());
    }
    let mut words = line.splitn(3, ' ');
    let (flag, name, rule) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rules = chains.get_mut(name).ok_or("no such chain")?;
    match flag {
        "-A" => rules.push(rule.to_owned()),
        "-I" => rules.insert(0, rule.to_owned()),
        "-D" => {
            let at = rules.iter().position(|found| found == rule).ok_or("no such rule")?;
            rules.remove(at);
        }
        "-F" => rules.clear(),
        "-X" if rules.is_empty() => {
            chains.remove(name);
        }
        "-X" => return Err("chain is not empty"),
        _ => return Err("unknown command"),
    }
    Ok(())
}

/// Every jump leads to a chain that exists.
fn check_references(chains: &Chains) -> Result<(), IptablesError> {
    const TARGETS: [&str; 7] = ["ACCEPT", "DROP", "RETURN", "REJECT", "DNAT", "MASQUERADE", "MARK"];
    for rule in chains.values().flatten() {
        let target = rule.split_whitespace().skip_while(|word| !matches!(*word, "-j" | "-g")).nth(1);
        if let Some(target) = target.filter(|target| !TARGETS.contains(target) && !chains.contains_key(*target)) {
            return Err(failed(format!("chain {target} does not exist but is referred to")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transaction_with_one_bad_line_changes_nothing() {
        let fake = FakeIptables::default();
        let bad = "*nat\n:A - [0:0]\n-A A -j MISSING\nCOMMIT\n".to_owned();
        assert!(fake.restore(bad).await.is_err());
        assert_eq!(fake.rules(Table::Nat, "A"), None);
        assert!(fake.restore("*nat\n-D PREROUTING -j RETURN\nCOMMIT\n".to_owned()).await.is_err());
        assert!(fake.transactions().is_empty());
    }
}
