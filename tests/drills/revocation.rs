//! A revocation reaches every proxy at once: what the revoked one has open is cut within seconds, of every kind of
//! traffic and its own stream to the distributor included, nobody else loses anything, and a revert of the policies
//! takes nothing back.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use mesh_tests::{Failure, http_get, program, run, unix_request, wait_until};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::d16_drain::clients::{Staying, connect_http2};
use crate::d16_drain::{World, application};
use crate::mesh::LIMIT;
use crate::say;

/// What "within seconds" may mean on a machine that is busy.
const SECONDS: Duration = Duration::from_secs(5);

/// Talks to the distributor as an operator does.
fn revoke(folder: &Path, words: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program("meshd")?);
    command
        .arg("revoke")
        .args(words)
        .arg("--socket")
        .arg(folder.join("meshd.sock"));
    Ok(String::from_utf8(run(&mut command)?.stdout)?)
}

/// Enrolments of a gateway's instances, in the order in which they enrolled, as the log tells them.
fn enrolments(folder: &Path, identity: &str) -> Result<Vec<String>, Failure> {
    let log = fs::read_to_string(folder.join("meshd.log"))?;
    let issued = log
        .lines()
        .filter(|line| line.contains("issued a certificate") && line.contains(identity));
    let word = |line: &str| -> Option<String> {
        let (_, rest) = line.split_once("enrolment")?;
        let digits = rest.chars().skip_while(|c| !c.is_ascii_hexdigit());
        Some(digits.take_while(char::is_ascii_hexdigit).collect())
    };
    Ok(issued.filter_map(word).collect())
}

/// A stream of gRPC that nobody ends: what comes after its first message.
async fn open_stream(to: std::net::SocketAddr) -> Result<impl Future<Output = bool>, Failure> {
    let mut sender = connect_http2(to).await?;
    let (messages, mut sent) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| {
        sent.poll_recv(cx)
            .map(|frame| frame.map(Ok::<_, std::convert::Infallible>))
    });
    let request = Request::post("http://shop.example/chat/Talk")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(StreamBody::new(frames))?;
    let asking = sender.send_request(request);
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    messages.send(Frame::data(message)).await?;
    let mut echo = asking.await?.into_body();
    echo.frame()
        .await
        .ok_or_else(|| Failure::new("the stream ended"))??;
    Ok(async move {
        // It lasts as long as somebody could still send.
        let _open = (messages, sender);
        let ended = tokio::time::timeout(SECONDS, async {
            while let Some(Ok(frame)) = echo.frame().await {
                if let Ok(trailers) = frame.into_trailers() {
                    return trailers
                        .get("grpc-status")
                        .is_some_and(|status| status != "0");
                }
            }
            true
        });
        ended.await.unwrap_or(false)
    })
}

#[test]
fn what_is_revoked_is_cut_within_seconds_and_nothing_else_is() -> Result<(), Failure> {
    let runtime = crate::d16_drain::runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let world = World::start(requests, bytes, ["0s", "5s"])?;
    let folder = world.folder.path().to_owned();
    let [first, second] = world.balancer.targets.as_slice() else {
        return Err(Failure::new("there are two gateways"));
    };
    let enrolled = enrolments(&folder, "gateway/public")?;
    let [revoked, _kept] = enrolled.as_slice() else {
        return Err(Failure::new(format!("two enrolments: {enrolled:?}")));
    };
    runtime.block_on(async {
        let staying = Staying::open(first, 3).await?;
        let mut others = Staying::open(second, 3).await?;
        let stream = open_stream(first.http).await?;
        let other_stream = open_stream(second.http).await?;

        let began = Instant::now();
        let said = revoke(
            &folder,
            &["--enrolment", revoked, "--reason", "lost laptop"],
        )?;
        assert!(said.starts_with("revoked enrolment"), "{said}");
        assert_eq!(
            staying.ended().await?,
            6,
            "connections of one instance are cut"
        );
        assert!(stream.await, "and its streams over HTTP/2");
        let cut = began.elapsed();
        assert!(cut < SECONDS, "{cut:?}");
        others.still_pass().await?;
        assert!(!other_stream.await, "those of another enrolment stay");
        say(&format!(
            "revocation: websockets, bytes and streams cut after {cut:?}"
        ));
        Ok::<_, Failure>(())
    })?;

    // Both sides refuse it, its own distributor too, and it says why.
    let gateway = world
        .gateways
        .first()
        .ok_or_else(|| Failure::new("a gateway"))?;
    wait_until("its stream is ended", LIMIT, || {
        let status = unix_request(&folder.join("meshd.sock"), "GET", "/status", "")?.json()?;
        let proxies = status["proxies"].as_array().cloned().unwrap_or_default();
        let of_first = proxies.iter().find(|proxy| proxy["instance"] == "first");
        match of_first {
            Some(proxy) if proxy["connected"] == false => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })?;
    let answer = http_get(first.http, "shop.example", "/", &[])?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(http_get(second.http, "shop.example", "/", &[])?.status, 200);
    let log = gateway.log()?;
    assert!(
        log.contains("no valid certificate and no join file"),
        "{log}"
    );

    // A revert of the policies takes nothing back.
    let clone = folder.join("clone");
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.args(["-c", "user.name=x", "-c", "user.email=x@drills.example"]);
        run(git.arg("-C").arg(&clone).args(words)).map(drop)
    };
    run(Command::new("git")
        .args(["clone", "--quiet"])
        .arg(folder.join("mesh.git"))
        .arg(&clone))?;
    let file = clone.join("mesh.kdl");
    let text = fs::read_to_string(&file)?.replace("timeout \"20s\"", "timeout \"19s\"");
    fs::write(&file, text)?;
    git(&["commit", "--quiet", "--all", "--message", "Shorter"])?;
    git(&["push", "--quiet"])?;
    git(&["revert", "--no-edit", "HEAD"])?;
    git(&["push", "--quiet"])?;
    let api = world
        .services
        .first()
        .ok_or_else(|| Failure::new("a service"))?;
    wait_until("the revert is served", LIMIT, || {
        let config = api.admin("/config")?.json()?;
        match config["sequence"].as_u64() {
            Some(3) => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })?;
    assert_eq!(http_get(first.http, "shop.example", "/", &[])?.status, 503);
    assert_eq!(http_get(second.http, "shop.example", "/", &[])?.status, 200);

    // The identity as a whole: the other instance goes too, over HTTP/1 while an answer is on its way.
    runtime.block_on(async {
        let mut slow = TcpStream::connect(second.http).await?;
        let staying = Staying::open(second, 1).await?;
        tokio::io::AsyncWriteExt::write_all(
            &mut slow,
            b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/grpc\r\nContent-Length: 9\r\n\r\nhalf",
        )
        .await?;
        let mut head = [0; 12];
        slow.read_exact(&mut head).await?;
        assert_eq!(&head, b"HTTP/1.1 200");
        revoke(&folder, &["spiffe://drills.example/gateway/public"])?;
        assert_eq!(staying.ended().await?, 2);
        let mut rest = Vec::new();
        let cut = tokio::time::timeout(SECONDS, slow.read_to_end(&mut rest)).await;
        assert!(cut.is_ok(), "the answer goes on");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "and it does not look whole");
        Ok::<_, Failure>(())
    })?;
    assert_eq!(http_get(second.http, "shop.example", "/", &[])?.status, 503);
    let listed = revoke(&folder, &["--list"])?;
    assert!(
        listed.contains("lost laptop") && listed.contains("gateway/public"),
        "{listed}"
    );
    Ok(())
}
