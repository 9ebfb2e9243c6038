//! The relay as a container image, made without an engine: `dist/program.rs` calls [`make`], then [`try_out`].
//!
//! The image is an OCI layout in one archive. It has Docker's own list of contents beside it, so that `docker load` of any version takes it as
//! `podman load` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::program::{Built, Program, architecture, has_interpreter};
use super::tar;
use crate::process::output;
use crate::workspace::Workspace;

/// The files of the image: those that `deploy/Dockerfile` puts there, and the licences of what is compiled in.
const FILES: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY.txt", "tunnel-relay"];

/// A file of the layout, by its hash.
struct Blob {
    digest: String,
    size: u64,
}

/// Makes `tunnel-relay-VERSION-oci.tar` in `folder`.
pub(super) fn make(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<PathBuf> {
    let name = format!("tunnel-relay-{}-oci", built.version);
    let layout = folder.join(&name);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
    let layer = tar(workspace, built.files, &FILES, &folder.join("layer.tar"))?;
    let layer = store(workspace, &blobs, &layer)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        // The same as in deploy/Dockerfile.
        "config": {
            "User": "65532:65532",
            "ExposedPorts": { "8087/tcp": {}, "9187/tcp": {} },
            "Env": [
                "TUNNEL_RELAY_LISTEN=0.0.0.0:8087",
                "TUNNEL_RELAY_METRICS_LISTEN=0.0.0.0:9187",
                "TUNNEL_RELAY_LOG_FORMAT=json",
            ],
            "Entrypoint": ["/tunnel-relay"],
            "Cmd": ["serve"],
            "StopSignal": "SIGTERM",
        },
        "rootfs": { "type": "layers", "diff_ids": [&layer.digest] },
    });
    let config = store_json(workspace, &blobs, &config)?;
    let part = |blob: &Blob, kind: &str| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": blob.digest, "size": blob.size });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part(&config, "config.v1+json"),
        "layers": [part(&layer, "layer.v1.tar")],
    });
    let manifest = store_json(workspace, &blobs, &manifest)?;
    let mut entry = part(&manifest, "manifest.v1+json");
    entry["annotations"] = json!({
        "org.opencontainers.image.ref.name": built.version,
        "io.containerd.image.name": format!("docker.io/library/tunnel-relay:{}", built.version),
    });
    let path = |blob: &Blob| blob.digest.replace("sha256:", "blobs/sha256/");
    for (file, content) in [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", json!({ "schemaVersion": 2, "manifests": [entry] })),
        // Docker before 25 reads this one, and no layout.
        (
            "manifest.json",
            json!([{
                "Config": path(&config),
                "RepoTags": [format!("tunnel-relay:{}", built.version)],
                "Layers": [path(&layer)],
            }]),
        ),
    ] {
        fs::write(layout.join(file), content.to_string()).with_context(|| format!("cannot write {file}"))?;
    }
    let names = ["oci-layout", "index.json", "manifest.json", "blobs"];
    let archive = tar(workspace, &layout, &names, &folder.join(format!("{name}.tar")))?;
    fs::remove_dir_all(&layout).context("cannot remove what was packed")?;
    Ok(archive)
}

fn store_json(workspace: &Workspace, blobs: &Path, value: &Value) -> Result<Blob> {
    let file = blobs.join("new");
    fs::write(&file, value.to_string()).context("cannot write a blob")?;
    store(workspace, blobs, &file)
}

/// Moves a file to where its hash says.
fn store(workspace: &Workspace, blobs: &Path, file: &Path) -> Result<Blob> {
    let printed = output(workspace.command("sha256sum").arg(file))?;
    let hash = printed.split_whitespace().next().context("sha256sum prints a hash")?;
    let size = fs::metadata(file).context("the blob is gone")?.len();
    fs::rename(file, blobs.join(hash)).context("cannot store a blob")?;
    Ok(Blob { digest: format!("sha256:{hash}"), size })
}

/// Unpacks the image as an engine does, and runs it as its configuration says. skopeo, where it is installed, reads it both ways.
pub(super) fn try_out(workspace: &Workspace, program: &Program, archive: &Path, folder: &Path) -> Result<()> {
    let unpack = |archive: &Path, to: &Path| {
        output(
            workspace.command("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(to),
        )
    };
    unpack(archive, folder)?;
    let read = |path: &str| -> Result<Value> {
        let text = fs::read_to_string(folder.join(path)).with_context(|| format!("{path} is missing"))?;
        serde_json::from_str(&text).with_context(|| format!("{path} is no JSON"))
    };
    let blob = |digest: &Value| digest.as_str().unwrap_or_default().replace("sha256:", "blobs/sha256/");
    let manifest = read(&blob(&read("index.json")?["manifests"][0]["digest"]))?;
    let config = &read(&blob(&manifest["config"]["digest"]))?["config"];
    let layer = blob(&manifest["layers"][0]["digest"]);
    ensure!(read("manifest.json")?[0]["Layers"][0] == *layer, "the two manifests name different layers");
    let root = folder.join("root");
    fs::create_dir_all(&root).context("cannot make a folder for the image")?;
    unpack(&folder.join(layer), &root)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (entry, user) = (text(&config["Entrypoint"][0]), text(&config["User"]));
    let binary = root.join(entry.trim_start_matches('/'));
    // Only a static program runs where there is nothing else, and only root may change the root.
    let is_static =
        has_interpreter(&fs::read(&binary).context("the image's program is missing")?) == Some(false);
    let is_root = output(workspace.command("id").arg("-u"))?.trim() == "0";
    program.try_installed(workspace, || {
        let mut command = if is_static && is_root {
            let mut chroot = workspace.command("chroot");
            chroot.arg(format!("--userspec={user}")).arg(&root).arg(&entry);
            chroot
        } else {
            Command::new(&binary)
        };
        let variables = config["Env"].as_array().into_iter().flatten().map(text);
        command.envs(
            variables
                .filter_map(|pair| Some(pair.split_once('=')?).map(|(n, v)| (n.to_owned(), v.to_owned()))),
        );
        command
    })?;
    if workspace.locate("skopeo").is_none() {
        println!("  there is no skopeo here (Debian: skopeo): the image is not read by it");
        return Ok(());
    }
    for kind in ["oci-archive", "docker-archive"] {
        let source = format!("{kind}:{}", archive.display());
        let copy = format!("dir:{}", folder.join(kind).display());
        output(workspace.command("skopeo").args(["--insecure-policy", "copy", &source, &copy]))?;
    }
    Ok(())
}
