//! Finding the record of the instance that a command is about.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{NAME, Record, register};
use crate::config::{Settings, flag};

/// Reads a record; a damaged one is told, and is none.
fn read(dir: &Path) -> Option<Record> {
    Record::read(dir).unwrap_or_else(|error| {
        eprintln!("! {error:#}: looking for another copy");
        None
    })
}

/// The instance of a data and a run directory.
///
/// # Errors
/// When they belong to two.
pub fn of_place(data_dir: &Path, run_dir: &Path) -> Result<Option<Record>> {
    match (read(data_dir), read(run_dir)) {
        (Some(data), Some(run)) if data.id != run.id => bail!(two_instances(data_dir, &data, run_dir, &run)),
        (Some(data), _) => Ok(Some(data)),
        (None, Some(run)) if run.data_dir != data_dir => bail!(
            "{} belongs to the cluster whose data is in {}, not in {}: choose another with --run-dir",
            run_dir.display(),
            run.data_dir.display(),
            data_dir.display()
        ),
        (None, Some(run)) => Ok(Some(run)),
        (None, None) => Ok(register::all().into_iter().find(|record| record.data_dir == data_dir && record.run_dir == run_dir)),
    }
}

fn two_instances(data_dir: &Path, data: &Record, run_dir: &Path, run: &Record) -> String {
    format!(
        "{} is of the cluster {}, but {} is of the cluster {}, whose data is in {}: name both with --data-dir and --run-dir",
        data_dir.display(),
        data.id,
        run_dir.display(),
        run.id,
        run.data_dir.display()
    )
}

/// The instance that a command is about: by the directories that its flags name, else by those of the file or the defaults.
///
/// # Errors
/// When what is named belongs to two.
pub fn of_command(flags: &Settings, file: &Settings) -> Result<Option<Record>> {
    let named = |dir: &Option<PathBuf>| dir.as_deref().and_then(read);
    match (&flags.data_dir, &flags.run_dir) {
        (Some(data_dir), None) => match named(&flags.data_dir) {
            Some(record) => Ok(Some(record)),
            // The run directory that nobody named may be another's.
            None => of_place(data_dir, &file.run_dir()),
        },
        (None, Some(run_dir)) => match named(&flags.run_dir) {
            Some(record) => Ok(Some(record)),
            None => of_place(&file.data_dir(), run_dir),
        },
        (data_dir, run_dir) => {
            let data_dir = data_dir.clone().unwrap_or_else(|| file.data_dir());
            of_place(&data_dir, &run_dir.clone().unwrap_or_else(|| file.run_dir()))
        }
    }
}

/// Refuses flags that say another thing than the record. What the record does not know, a flag may still say.
///
/// # Errors
/// Naming the flags, and where the record is.
pub fn refuse_contradiction(flags: &Settings, record: &Record, except: &[&str]) -> Result<()> {
    let known = record.settings().entries();
    let mut contradictions = Vec::new();
    for (setting, given) in flags.entries().into_iter().filter(|(setting, _)| !except.contains(&setting.as_str())) {
        let Some(recorded) = known.get(&setting).filter(|recorded| **recorded != given && !is_the_same(recorded, &given)) else { continue };
        contradictions.push(format!("{} is {given}, but the cluster was started with {recorded}", flag(&setting)));
    }
    if contradictions.is_empty() {
        return Ok(());
    }
    let place = record.data_dir.join(NAME);
    bail!("{} (as {} says): leave the flag out, everything is read there", contradictions.join("; "), place.display())
}

/// Whether two values mean the same although they are spelt otherwise.
fn is_the_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    let path = |value: &serde_json::Value| value.as_str().map(|text| PathBuf::from(text.trim_matches('/')));
    path(one).is_some_and(|one| Some(one) == path(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Part, durable, instance::Daemon};

    fn save(dir: &Path, record: &Record) {
        durable::write(&dir.join(NAME), &serde_json::to_vec(record).expect("encodes")).expect("writes");
    }

    fn record(dir: &Path, name: &str) -> Record {
        Record::new(dir.join(name).join("data"), dir.join(name).join("run")).expect("makes")
    }

    fn flags(data: Option<&Path>, run: Option<&Path>) -> Settings {
        Settings { data_dir: data.map(Path::to_owned), run_dir: run.map(Path::to_owned), ..Settings::default() }
    }

    #[test]
    fn either_directory_leads_to_the_instance() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (record(dir.path(), "a"), record(dir.path(), "b"));
        for one in [&a, &b] {
            save(&one.data_dir, one);
            save(&one.run_dir, one);
        }
        let defaults = flags(Some(&b.data_dir), Some(&b.run_dir));
        let found = |data: Option<&Path>, run: Option<&Path>| of_command(&flags(data, run), &defaults).map(|found| found.map(|record| record.id));
        assert_eq!(found(Some(&a.data_dir), None).expect("one"), Some(a.id.clone()));
        assert_eq!(found(None, Some(&a.run_dir)).expect("one"), Some(a.id.clone()));
        assert_eq!(found(None, None).expect("one"), Some(b.id.clone()));
        assert!(found(Some(&a.data_dir), Some(&b.run_dir)).is_err(), "they belong to two");
        // Half of the record is enough.
        std::fs::write(a.data_dir.join(NAME), "{").expect("writes");
        assert_eq!(found(Some(&a.data_dir), Some(&a.run_dir)).expect("one"), Some(a.id.clone()));
        // A directory without a record must not lead to the run directory of another.
        let error = found(Some(&dir.path().join("c")), None).expect_err("refused").to_string();
        assert!(error.contains("--run-dir"), "{error}");
        assert_eq!(found(Some(&dir.path().join("c")), Some(&dir.path().join("d"))).expect("none"), None);
    }

    #[test]
    fn a_flag_that_contradicts_the_record_is_refused_with_both_values() {
        let mut record = Record::new("/d".into(), "/r".into()).expect("makes");
        let settings =
            Settings { bridge: Some("b0".into()), cgroup_parent: Some("a/b".into()), kubeconfig: Some("/k".into()), ..Settings::default() };
        record.daemons.insert("troupe".into(), Daemon { parts: Part::WHOLE.into(), settings });
        let same = Settings { bridge: Some("b0".into()), cgroup_parent: Some("/a/b/".into()), image_dir: Some("/i".into()), ..Settings::default() };
        refuse_contradiction(&same, &record, &[]).expect("nothing contradicts");
        let other = Settings { bridge: Some("b1".into()), kubeconfig: Some("/other".into()), ..Settings::default() };
        let error = refuse_contradiction(&other, &record, &["kubeconfig"]).expect_err("refused").to_string();
        assert!(error.contains("--bridge is \"b1\"") && error.contains("\"b0\"") && !error.contains("--kubeconfig"), "{error}");
    }
}
