//! Container images made from local files: OCI archives for `pause`, DNS, busybox and the sample application.
//!
//! `troupe images build` writes the archives, `troupe images import` hands them to containerd, and `troupe up`
//! imports those that the runtime lacks.

mod archive;
mod import;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

pub use archive::{ImageFile, ImageSpec};
pub use import::{ctr, import_missing, import_one, names};

/// The sandbox image.
pub const PAUSE_IMAGE: &str = "troupe.local/pause:0.1";
/// The DNS server's image.
pub const DNS_IMAGE: &str = "troupe.local/dns:0.1";

/// `troupe images …`
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Build the OCI archives from binaries next to this one and the host's static busybox
    Build {
        /// Where pause, troupe-dns and troupe-sample-web are (static executables)
        #[arg(long)]
        binaries: PathBuf,
        /// Where to write the archives
        #[arg(long)]
        out: PathBuf,
        /// The static busybox to package
        #[arg(long, default_value = "/bin/busybox")]
        busybox: PathBuf,
    },
    /// Import archives into containerd
    Import {
        /// Directory with the archives
        dir: PathBuf,
        /// containerd's socket
        #[arg(long, default_value = crate::containerd::OWN_SOCKET)]
        address: PathBuf,
    },
}

/// Runs `troupe images …`.
pub fn run(command: ImagesCommand) -> Result<()> {
    match command {
        ImagesCommand::Build { binaries, out, busybox } => build(&binaries, &out, &busybox),
        ImagesCommand::Import { dir, address } => {
            for archive in archives(&dir)? {
                import_one(&address, &archive)?;
                println!("imported {}", archive.display());
            }
            Ok(())
        }
    }
}

/// The archives in a directory, in name order.
pub fn archives(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "tar")).collect();
    found.sort();
    Ok(found)
}

fn build(binaries: &Path, out: &Path, busybox: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for spec in specs(binaries, busybox)? {
        let path = out.join(format!("{}.tar", spec.file_stem()));
        spec.write_archive(&path).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} → {}", spec.names.join(", "), path.display());
    }
    Ok(())
}

fn specs(binaries: &Path, busybox: &Path) -> Result<Vec<ImageSpec>> {
    let binary = |name: &str, target: &str| executable(&binaries.join(name), target);
    let pause = ImageSpec {
        names: vec![PAUSE_IMAGE.into()],
        files: vec![binary("pause", "pause")?],
        entrypoint: vec!["/pause".into()],
        user: "65535:65535".into(),
        ..ImageSpec::default()
    };
    let dns = ImageSpec {
        names: vec![DNS_IMAGE.into()],
        files: vec![binary("troupe-dns", "troupe-dns")?],
        entrypoint: vec!["/troupe-dns".into()],
        user: "65532:65532".into(),
        ..ImageSpec::default()
    };
    let busybox = ImageSpec {
        names: vec!["docker.io/library/busybox:1.35".into(), "docker.io/library/busybox:latest".into()],
        files: busybox_files(busybox)?,
        command: vec!["sh".into()],
        ..ImageSpec::default()
    };
    let web = ImageSpec {
        names: vec!["troupe.local/sample-web:0.1".into(), "troupe.local/sample-web:0.2".into()],
        files: vec![binary("troupe-sample-web", "web")?],
        entrypoint: vec!["/web".into()],
        ..ImageSpec::default()
    };
    Ok(vec![busybox, dns, pause, web])
}

fn executable(source: &Path, target: &str) -> Result<ImageFile> {
    let content = std::fs::read(source).with_context(|| format!("cannot read {}; build it first (make images does)", source.display()))?;
    if content.windows(9).take(1 << 20).any(|window| window == b"/lib64/ld") {
        bail!("{} is linked dynamically, but the image has no libraries: build it with the rustc wrapper of .cargo/config.toml", source.display());
    }
    Ok(ImageFile::executable(target, content))
}

/// busybox under /bin with a link per applet, and the few files that programs expect.
fn busybox_files(busybox: &Path) -> Result<Vec<ImageFile>> {
    let output = std::process::Command::new(busybox).arg("--list").output().with_context(|| format!("cannot run {}", busybox.display()))?;
    let applets = String::from_utf8_lossy(&output.stdout).lines().filter(|name| *name != "busybox").map(str::to_owned).collect::<Vec<_>>();
    if applets.is_empty() {
        bail!("{} lists no applets: is it busybox-static?", busybox.display());
    }
    let mut files = vec![executable(busybox, "bin/busybox")?];
    files.extend(applets.into_iter().map(|name| ImageFile::link(&format!("bin/{name}"), "busybox")));
    files.push(ImageFile::text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"));
    files.push(ImageFile::text("etc/group", "root:x:0:\nnobody:x:65534:\n"));
    files.push(ImageFile::directory("tmp", 0o1777));
    files.push(ImageFile::directory("root", 0o700));
    Ok(files)
}
