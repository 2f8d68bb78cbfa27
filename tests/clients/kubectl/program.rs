//! A kubectl of some version in a corner of a cluster.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use crate::{
    cluster::{eventually, text},
    downloads,
    running::Running,
    stage::Corner,
};

/// How long a line of output may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Kubectl<'a> {
    pub corner: &'a Corner,
    program: PathBuf,
}

impl<'a> Kubectl<'a> {
    /// kubectl 1.`minor`.
    pub fn new(corner: &'a Corner, minor: u16) -> Self {
        Kubectl { corner, program: downloads::kubectl(minor) }
    }

    /// kubectl with words, of which `'` quotes some, to be started.
    pub fn command(&self, words: &str) -> Command {
        let mut command = self.corner.command(&self.program.to_string_lossy());
        command.args(split(words)).stdin(Stdio::null());
        command
    }

    pub fn output(&self, words: &str) -> Output {
        self.command(words).output().expect("kubectl runs")
    }

    /// What it prints; it must succeed.
    pub fn run(&self, words: &str) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "kubectl {words} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says when it fails, which it must.
    pub fn fails(&self, words: &str) -> String {
        let output = self.output(words);
        assert!(!output.status.success(), "kubectl {words} succeeded:\n{}", text(&output.stdout));
        text(&output.stderr)
    }

    /// What it prints with this on its standard input; it must succeed.
    pub fn fed(&self, words: &str, input: &str) -> String {
        let mut child = self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "kubectl {words}: {}", text(&output.stdout));
        text(&output.stdout)
    }

    /// Starts it and reads its lines as they come.
    pub fn follow(&self, words: &str) -> Lines {
        let mut process = Running(self.command(words).stdout(Stdio::piped()).spawn().expect("kubectl runs"));
        let (each, lines) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        // Ends with the process, or when nobody wants to know.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| each.send(line)));
        Lines { _process: process, lines }
    }

    /// Waits until a command succeeds and prints what is wanted.
    pub fn eventually(&self, words: &str, wanted: impl Fn(&str) -> bool) {
        eventually(&format!("kubectl {words} prints what is wanted"), || {
            let output = self.output(words);
            output.status.success() && wanted(&text(&output.stdout))
        });
    }
}

/// The lines of a kubectl that runs; it is ended with them.
pub struct Lines {
    _process: Running,
    lines: Receiver<String>,
}

impl Lines {
    /// The next line's words.
    pub fn next(&self) -> Vec<String> {
        let line = self.lines.recv_timeout(PATIENCE).expect("another line in time");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits for the end of the process; all lines that were left.
    pub fn rest(self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return rest,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {rest:?}"),
            }
        }
    }
}

/// Words at blanks, outside of `'`.
fn split(words: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for character in words.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => out.push(String::new()),
            other => out.last_mut().expect("never empty").push(other),
        }
    }
    out.retain(|word| !word.is_empty());
    out
}
