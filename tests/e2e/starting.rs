//! What `meshd dev` says when it cannot start, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_tests::{Failure, PolicyRepository, Running, program, run, wait_until, workspace_root};

use crate::support::{LIMIT, bookshop};

struct Shop {
    folder: tempfile::TempDir,
    repository: PolicyRepository,
    clone: PathBuf,
}

impl Shop {
    fn new() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mesh-e2e-").tempdir()?;
        let policies = workspace_root().join("policies/examples/bookshop");
        let repository = PolicyRepository::create(folder.path(), &policies)?;
        let clone = folder.path().join("clone");
        repository.clone_to(&clone)?;
        std::fs::create_dir(folder.path().join("tmp"))?;
        Ok(Self {
            folder,
            repository,
            clone,
        })
    }

    fn git(&self, words: &[&str]) -> Result<(), Failure> {
        run(Command::new("git").current_dir(&self.clone).args(words)).map(drop)
    }

    /// Temporary files of its own, so that what is left there can be counted.
    fn dev(&self, repository: &Path) -> Result<Command, Failure> {
        let mut command = Command::new(program("meshd")?);
        command
            .arg("dev")
            .arg(repository)
            .env("TMPDIR", self.folder.path().join("tmp"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null());
        Ok(command)
    }

    fn left(&self) -> Result<Vec<PathBuf>, Failure> {
        let entries = std::fs::read_dir(self.folder.path().join("tmp"))?;
        Ok(entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?)
    }

    /// Runs one that cannot start; its folder must be gone then.
    fn refused(&self, repository: &Path, words: &[&str], expected: &[&str]) -> Result<(), Failure> {
        let output = self.dev(repository)?.args(words).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in expected {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
        assert_eq!(self.left()?, Vec::<PathBuf>::new(), "{said}");
        Ok(())
    }

    /// Starts one and waits until it serves.
    fn started(&self, words: &[&str]) -> Result<Running, Failure> {
        let ports = self.folder.path().join("ports.json");
        let mut command = self.dev(self.repository.path())?;
        command
            .args(["--quiet", "--rate", "0", "--ports"])
            .arg(&ports)
            .args(words);
        let mut dev = Running::start(&mut command)?;
        wait_until("it serves", LIMIT, || match dev.ended()? {
            Some(status) => Ok(Err(Failure::new(format!("it ended with {status}")))),
            None if ports.exists() => Ok(Ok(())),
            None => Err(Failure::new("no ports file")),
        })??;
        Ok(dev)
    }
}

fn signal(dev: &Running, name: &str) -> Result<(), Failure> {
    run(Command::new("kill").args(["-s", name, &dev.id().to_string()])).map(drop)
}

#[test]
fn what_cannot_be_served_is_said_at_once() -> Result<(), Failure> {
    let shop = Shop::new()?;
    shop.refused(
        &shop.clone,
        &["--env", "nowhere"],
        &["--env nowhere: the mesh has no such environment; it has default, prod, staging"],
    )?;

    let shallow = shop.folder.path().join("shallow");
    let url = format!("file://{}", shop.repository.path().display());
    run(Command::new("git")
        .args(["clone", "--quiet", "--depth", "1", &url])
        .arg(&shallow))?;
    shop.refused(
        &shallow,
        &[],
        &["is a shallow clone", "`git fetch --unshallow`"],
    )?;

    shop.git(&["switch", "--quiet", "--detach"])?;
    shop.refused(&shop.clone, &[], &["is detached", "`git switch`"])?;
    shop.git(&["switch", "--quiet", "main"])?;

    let file = shop.clone.join("teams/reviews/reviews.kdl");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("to v2 weight", "to v3 weight"))?;
    shop.git(&["commit", "--quiet", "--all", "--message", "Break it"])?;
    let place = "teams/reviews/reviews.kdl:22: there is no subset `v3` [MSH0305]";
    shop.refused(
        &shop.clone,
        &[],
        &["the policies of the tip have errors", place],
    )?;
    std::fs::write(&file, text)?;

    let other = shop.clone.join("trial");
    std::fs::create_dir(&other)?;
    std::fs::write(
        other.join("mesh.kdl"),
        "mesh trial { trust-domain \"trial.example\" }\n",
    )?;
    shop.git(&["add", "--all"])?;
    shop.git(&["commit", "--quiet", "--message", "Another mesh"])?;
    let bare = shop.folder.path().join("several.git");
    run(Command::new("git")
        .args(["clone", "--quiet", "--bare"])
        .arg(&shop.clone)
        .arg(&bare))?;
    shop.refused(
        &bare,
        &[],
        &["several policy roots; give the folder of one of them: ., trial"],
    )?;

    let nothing = shop.folder.path().join("nothing");
    std::fs::create_dir(&nothing)?;
    shop.refused(&nothing, &[], &["is not in a git repository", "`git init`"])
}

#[test]
fn two_do_not_share_a_folder_and_an_old_ports_file_misleads_nobody() -> Result<(), Failure> {
    let shop = Shop::new()?;
    let state = shop.folder.path().join("state").display().to_string();
    let ports = shop.folder.path().join("ports.json");
    let mut first = shop.started(&["--state", &state])?;
    let written = std::fs::read_to_string(&ports)?;
    let in_use = format!("(process {}) is in use by another `meshd dev`", first.id());
    shop.refused(
        shop.repository.path(),
        &["--state", &state, "--ports", &ports.display().to_string()],
        &[&in_use],
    )?;
    assert_eq!(
        std::fs::read_to_string(&ports)?,
        written,
        "the first one's file stays"
    );
    assert!(first.stop()?.success());
    assert!(!ports.exists(), "nobody listens there any more");

    std::fs::write(&ports, written)?;
    shop.refused(
        &shop.clone,
        &["--env", "nowhere", "--ports", &ports.display().to_string()],
        &["nowhere"],
    )?;
    assert!(!ports.exists(), "it was of an earlier run");
    let mut again = shop.started(&["--state", &state])?;
    // The proxies that the state knows look for their distributor where it was.
    wait_until("every proxy is back", LIMIT, || {
        let socket = format!("{state}/meshd.sock");
        let asked = Command::new(program("meshd")?)
            .args(["status", "--format", "json", "--socket", &socket])
            .output()?;
        let said = String::from_utf8(asked.stdout)?;
        let status: serde_json::Value = serde_json::from_str(&said)?;
        let proxies = status["proxies"].as_array().map_or(&[][..], Vec::as_slice);
        if proxies.len() > 5 && proxies.iter().all(|proxy| proxy["connected"] == true) {
            return Ok(());
        }
        Err(Failure::new(said))
    })?;
    assert!(again.stop()?.success());
    Ok(())
}

/// What is told to end ends once, and what stays is named.
#[test]
fn at_the_end_nothing_is_started_again() -> Result<(), Failure> {
    let shop = Shop::new()?;
    let state = shop.folder.path().join("state");
    let said = shop.folder.path().join("said");
    let mut command = shop.dev(shop.repository.path())?;
    command
        .args(["--rate", "0", "--state"])
        .arg(&state)
        .stderr(std::fs::File::create(&said)?);
    let mut dev = Running::start(&mut command)?;
    let stays = format!("Ctrl-C ends it; {} stays.", state.display());
    wait_until("it serves", LIMIT, || {
        let said = std::fs::read_to_string(&said)?;
        if said.contains(&stays) {
            return Ok(());
        }
        Err(Failure::new(said))
    })?;
    assert!(dev.stop()?.success());
    let said = std::fs::read_to_string(&said)?;
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let mut proxies = 0;
    for instance in std::fs::read_dir(state.join("proxies"))? {
        let log = instance?.path().join("meshp.log");
        if log.exists() {
            proxies += 1;
            let log = std::fs::read_to_string(log)?;
            assert_eq!(log.matches("\"enrolled\"").count(), 1, "{log}");
            assert!(!log.contains("could not start"), "{log}");
        }
    }
    assert!(proxies > 5, "{proxies}");
    Ok(())
}

#[test]
fn the_end_of_the_terminal_leaves_no_keys_behind() -> Result<(), Failure> {
    let shop = Shop::new()?;
    let mut dev = shop.started(&[])?;
    assert_eq!(shop.left()?.len(), 1);
    signal(&dev, "HUP")?;
    let status = wait_until("its end", LIMIT, || {
        dev.ended()?.ok_or_else(|| Failure::new("it runs"))
    })?;
    assert!(status.success(), "{status}");
    assert_eq!(shop.left()?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn what_a_killed_one_left_the_next_one_removes() -> Result<(), Failure> {
    let shop = Shop::new()?;
    let mut dev = shop.started(&[])?;
    signal(&dev, "KILL")?;
    wait_until("its end", LIMIT, || {
        dev.ended()?.ok_or_else(|| Failure::new("it runs"))
    })?;
    let left = shop.left()?;
    assert_eq!(left.len(), 1, "nobody could clean up: {left:?}");
    std::fs::remove_file(shop.folder.path().join("ports.json"))?;
    let mut next = shop.started(&[])?;
    wait_until("the old folder is gone", LIMIT, || {
        if left.iter().any(|folder| folder.exists()) {
            return Err(Failure::new(format!("{left:?}")));
        }
        Ok(())
    })?;
    assert!(next.stop()?.success());
    assert_eq!(shop.left()?, Vec::<PathBuf>::new());
    Ok(())
}

/// Two questions to a running distributor that have no good answer.
#[test]
fn a_refused_commit_and_an_unknown_workload_are_told_as_such() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let bad = shop.dev.commit_edit(
        "teams/reviews/reviews.kdl",
        &[("to v2 weight", "to v3 weight")],
    )?;
    let ask = |words: &[&str]| -> Result<(Option<i32>, String), Failure> {
        let output = Command::new(program("meshd")?)
            .args(words)
            .arg("--socket")
            .arg(shop.dev.socket())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    };
    wait_until("the refusal is known", LIMIT, || {
        let (_, said) = ask(&["where", &bad])?;
        if said.contains("(refused: teams/reviews/reviews.kdl:22: ")
            && said.contains("policy_invalid")
        {
            return Ok(());
        }
        Err(Failure::new(said))
    })?;
    let file = shop.dev.state().join("nobody.json").display().to_string();
    let (code, said) = ask(&[
        "token",
        "spiffe://bookshop.example/service/nobody",
        "--out",
        &file,
    ])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("have no workload spiffe://bookshop.example/service/nobody"),
        "{said}"
    );
    assert!(!Path::new(&file).exists());
    Ok(())
}
