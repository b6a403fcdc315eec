//! How people come in: by the gateway's listeners, over TLS and in plaintext, and by nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use mesh_tests::{EdgeTraffic, Failure, Response, http_get, wait_until};

use crate::support::{Bookshop, LIMIT, bookshop, https};

const GATEWAY: &str = "public";
const HOST: &str = "bookshop.example";

fn enter(shop: &Bookshop, name: &str, method: &str, path: &str) -> Result<Response, Failure> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n"
    );
    let trusted = shop.dev.made_certificate("bookshop");
    https(shop.dev.listener(GATEWAY, 443)?, name, &trusted, &request)
}

#[test]
fn people_come_in_over_tls() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let page = enter(&shop, HOST, "GET", "/books/7")?;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("x-echo-service"), Some("productpage"));
    let seen = page.json()?["headers"].to_string();
    assert!(
        seen.contains(r#"["x-forwarded-for","127.0.0.1"]"#),
        "what a client claims is not believed: {seen}"
    );
    let order = enter(&shop, HOST, "POST", "/orders/1")?;
    assert_eq!(order.status, 200, "{order:?}");
    assert_eq!(order.header("x-echo-service"), Some("orders"));
    for (method, path) in [("GET", "/reviews/7"), ("POST", "/books/7")] {
        let nowhere = enter(&shop, HOST, method, path)?;
        assert_eq!(nowhere.status, 404, "{nowhere:?}");
        assert_eq!(nowhere.header("x-mesh-reason"), Some("no_route"));
    }
    Ok(())
}

#[test]
fn a_name_that_no_listener_has_gets_no_certificate() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let refused = enter(&shop, "other.example", "GET", "/books/7");
    assert!(refused.is_err(), "{refused:?}");
    let metrics = shop.dev.gateway(GATEWAY)?.metrics;
    wait_until("the refusal is counted", LIMIT, || {
        let metrics = http_get(metrics, "localhost", "/metrics", &[])?.body;
        let failed = crate::support::sum(&metrics, "mesh_tls_handshakes_failed_total", &[])?;
        if failed >= 1.0 {
            return Ok(());
        }
        Err(Failure::new(metrics))
    })
}

#[test]
fn plaintext_is_sent_to_https() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let plain = shop.dev.listener(GATEWAY, 80)?;
    let sent = http_get(plain, HOST, "/books/7?page=2", &[])?;
    assert_eq!(sent.status, 308, "{sent:?}");
    let location = format!("https://{HOST}/books/7?page=2");
    assert_eq!(sent.header("location"), Some(location.as_str()));
    let other = http_get(plain, "other.example", "/books/7", &[])?;
    assert_eq!(other.status, 404, "{other:?}");
    Ok(())
}

/// What stands in front of a gateway is on this machine, too, and so is the demo traffic.
#[test]
fn a_program_of_this_machine_may_say_who_the_client_is() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let file = "teams/storefront/public.kdl";
    let commit = shop.dev.commit_edit(
        file,
        &[
            ("listen 80 {", "listen 80 { client-ip proxy-protocol;"),
            (
                "listen 443 {",
                "listen 443 {\n        client-ip proxy-protocol",
            ),
        ],
    )?;
    shop.dev.wait_serving(&commit, LIMIT)?;
    let before = shop.dev.edge(GATEWAY, "productpage")?;
    wait_until("demo traffic enters by the gateway", LIMIT, || {
        let now = shop.dev.edge(GATEWAY, "productpage")?;
        let entered = |edge: &EdgeTraffic| edge.requests - edge.failed;
        if entered(&now) >= entered(&before) + 50 {
            return Ok(());
        }
        Err(Failure::new(format!("{now:?}")))
    })?;
    let plain = shop.dev.listener(GATEWAY, 80)?;
    let request = format!("GET /books/7 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let send = |header: &str| -> Result<String, Failure> {
        let mut client = TcpStream::connect(plain)?;
        client.write_all(format!("{header}{request}").as_bytes())?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = send("PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n")?;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(send("").is_err(), "nobody said who the client is");
    Ok(())
}

/// A commit that moves a listener's routes is served by the same socket, and nobody notices.
#[test]
fn a_commit_changes_what_the_gateway_does_without_a_failure() -> Result<(), Failure> {
    let shop = bookshop(50)?;
    let wait_entered = |more: u64| {
        let before = shop.dev.edge(GATEWAY, "productpage")?.requests;
        wait_until("demo traffic enters by the gateway", LIMIT, || {
            let now = shop.dev.edge(GATEWAY, "productpage")?;
            if now.requests >= before + more {
                return Ok(());
            }
            Err(Failure::new(format!("{now:?}")))
        })
    };
    wait_entered(50)?;
    let file = "teams/storefront/public.kdl";
    let moved = [("\"/orders/**\"", "\"/orders/**\" \"/baskets/**\"")];
    let commit = shop.dev.commit_edit(file, &moved)?;
    shop.dev.wait_serving(&commit, LIMIT)?;
    wait_entered(50)?;
    let basket = enter(&shop, HOST, "POST", "/baskets/1")?;
    assert_eq!(
        basket.header("x-mesh-reason"),
        Some("authz_denied"),
        "orders decide for themselves: {basket:?}"
    );
    let failed: Vec<_> = shop
        .dev
        .traffic()?
        .into_iter()
        .filter(|edge| edge.failed > 0)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    Ok(())
}
