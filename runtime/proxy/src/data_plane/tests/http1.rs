//! HTTP/1.1 to the letter, between a client and a server that both write their own bytes.

use std::time::Duration;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;
use super::tcp::Server;
use super::upgrade::{ask, head, pair, read_exactly};

/// Everything until the end of the connection.
async fn rest(tcp: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = tcp.read_to_end(&mut all);
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
    read.expect("it does not end").unwrap();
    String::from_utf8(all).unwrap()
}

/// RFC 9112 section 9.3.2: answers come in the order of their requests.
#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let post = |number: i32| {
        format!("POST /{number} HTTP/1.1\r\nHost: reviews\r\nContent-Length: 4\r\n\r\nbody")
    };
    let mut requests: String = (0..20).map(post).collect();
    requests += "GET /last HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n";
    let mut client = ask(&productpage, requests.as_bytes()).await;
    let answers = rest(&mut client).await;
    let paths = answers
        .lines()
        .filter_map(|line| line.strip_prefix("x-path: /"));
    let wanted: Vec<_> = (0..20)
        .map(|number| number.to_string())
        .chain(["last".into()])
        .collect();
    assert_eq!(paths.collect::<Vec<_>>(), wanted);
}

/// RFC 9110 section 10.1.1, in both orders: the body waits for the permission, or does not.
#[tokio::test]
async fn whoever_expects_a_permission_gets_it() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    for waits in [true, false] {
        let asked = b"POST /a HTTP/1.1\r\nHost: reviews\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut client = ask(&productpage, asked).await;
        if waits {
            assert!(head(&mut client).await.starts_with("http/1.1 100 "));
        }
        client.write_all(b"body").await.unwrap();
        let mut upstream = server.accept().await;
        assert!(head(&mut upstream).await.starts_with("post /a "));
        assert_eq!(read_exactly(&mut upstream, 4).await, b"body");
        upstream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        let mut answer = head(&mut client).await;
        if !waits && answer.starts_with("http/1.1 100 ") {
            answer = head(&mut client).await;
        }
        assert!(answer.starts_with("http/1.1 204 "), "{answer}");
        // The next try comes on a connection of its own.
        drop(upstream);
    }
}

/// A request that goes nowhere is answered at once, and its body is asked for by nobody.
#[tokio::test]
async fn whoever_is_refused_is_not_asked_for_a_body() {
    let server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let asked =
        b"POST / HTTP/1.1\r\nHost: nobody\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = ask(&productpage, asked).await;
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 403 "), "{answer}");
    assert_eq!(server.count(), 0);
}

/// The same where the callee's proxy refuses: who is told to go on would be told twice.
#[tokio::test]
async fn whoever_is_refused_by_the_callee_is_not_asked_for_a_body() {
    let server = Server::start().await;
    let (mesh, reviews, productpage) = pair(&server, route());
    reviews.apply(&mesh.admitting("reviews", &["ratings"]));
    let asked =
        b"POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = ask(&productpage, asked).await;
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 403 "), "{answer}");
    assert_eq!(server.count(), 0);
}

/// An answer that comes while the request is still sent is passed on at once.
#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_request() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let asked =
        b"POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let mut client = ask(&productpage, asked).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    let early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!";
    upstream.write_all(early).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    assert_eq!(read_exactly(&mut client, 3).await, b"no!");
}

/// RFC 9112 section 7.1.2: trailers pass, in chunks, to whoever said that they may.
#[tokio::test]
async fn trailers_pass_both_ways() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let asked =
        b"POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
        Trailer: x-sum\r\nConnection: TE\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n";
    let mut client = ask(&productpage, asked).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        body.push(char::from(upstream.read_u8().await.unwrap()));
    }
    assert_eq!(
        body.to_ascii_lowercase(),
        "4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n"
    );
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-took\r\n\r\n\
        2\r\nok\r\n0\r\nx-took: 9\r\n\r\n";
    upstream.write_all(answer).await.unwrap();
    head(&mut client).await;
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        body.push(char::from(client.read_u8().await.unwrap()));
    }
    assert_eq!(
        body.to_ascii_lowercase(),
        "2\r\nok\r\n0\r\nx-took: 9\r\n\r\n"
    );
}

/// hyper hands none but 101 on, so hints get lost; what they announce does not.
#[tokio::test]
async fn an_answer_comes_after_its_hints() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n").await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    upstream.write_all(hint).await.unwrap();
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    let mut answer = head(&mut client).await;
    if answer.starts_with("http/1.1 103 ") {
        answer = head(&mut client).await;
    }
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert_eq!(read_exactly(&mut client, 2).await, b"ok");
}

/// RFC 9112 section 6.3: these have no body, whatever their heads say, and the connection goes on after them.
#[tokio::test]
async fn what_has_no_body_leaves_the_connection_usable() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    let mut upstream = None;
    for (method, status, length) in [
        ("HEAD", "200 OK", "Content-Length: 1000\r\n"),
        ("GET", "304 Not Modified", "Content-Length: 1000\r\n"),
        ("GET", "204 No Content", ""),
        ("GET", "304 Not Modified", ""),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n"),
    ] {
        let asked = format!("{method} / HTTP/1.1\r\nHost: reviews\r\n\r\n");
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut tcp: TcpStream = match upstream.take() {
            Some(tcp) => tcp,
            None => server.accept().await,
        };
        head(&mut tcp).await;
        let answer = format!("HTTP/1.1 {status}\r\n{length}\r\n");
        tcp.write_all(answer.as_bytes()).await.unwrap();
        upstream = Some(tcp);
        let answer = head(&mut client).await;
        let code = status.split(' ').next().unwrap();
        assert!(answer.starts_with(&format!("http/1.1 {code} ")), "{answer}");
        let told = answer.contains("content-length: 1000\r\n");
        // What a 304 says of a length it may also leave out (RFC 9110 section 8.6), and hyper does.
        assert_eq!(
            told,
            method == "HEAD" && length.contains("1000"),
            "{answer}"
        );
    }
    let last = b"GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n";
    client.write_all(last).await.unwrap();
    let mut upstream = upstream.unwrap();
    head(&mut upstream).await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nok"));
    assert_eq!(server.count(), 1, "all came by one connection");
}

/// RFC 9112 section 6.1: a client of HTTP/1.0 gets no chunks, and its connection ends with the answer.
#[tokio::test]
async fn a_client_of_http10_gets_no_chunks() {
    let mesh = Mesh::new();
    let application = Application::http1(|_request| async {
        let mut response = Response::new(full("all of it"));
        let chunked = "chunked".parse().unwrap();
        response.headers_mut().insert("transfer-encoding", chunked);
        response
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = ask(&productpage, b"GET / HTTP/1.0\r\nHost: reviews\r\n\r\n").await;
    let answer = rest(&mut client).await;
    assert!(
        !answer.to_ascii_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nall of it"), "{answer}");
}

/// RFC 9112 appendix C.2.2: where both say so, a connection of HTTP/1.0 is kept.
#[tokio::test]
async fn a_client_of_http10_may_keep_its_connection() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let asked = b"POST / HTTP/1.0\r\nHost: reviews\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    let mut client = ask(&productpage, asked).await;
    for _ in 0..2 {
        let answer = head(&mut client).await;
        assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
        assert!(answer.contains("content-length: 2\r\n"), "{answer}");
        assert_eq!(read_exactly(&mut client, 2).await, b"hi");
        client.write_all(asked).await.unwrap();
    }
}

/// The end of what a client sends, some time after its request, is its disappearance: the request is taken back.
#[tokio::test]
async fn a_client_that_ends_later_has_gone() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n").await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    tokio::time::sleep(2 * crate::limits::HALF_CLOSE_WITHIN).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    let record = productpage.record(|_| true).await;
    assert_eq!(record["reason"], "client_disconnect", "{record}");
    assert_eq!(rest(&mut upstream).await, "", "its request was taken back");
}
