//! What reaches the followed ref: good commits, bad ones, and history that is rewritten.

use mesh_tests::{Failure, wait_until};

use crate::support::{Bookshop, LIMIT, bookshop};

const REVIEWS: &str = "teams/reviews/reviews.kdl";

/// Waits until the distributor's status satisfies `seen`.
fn wait_status(
    shop: &Bookshop,
    what: &str,
    seen: impl Fn(&serde_json::Value) -> bool,
) -> Result<serde_json::Value, Failure> {
    wait_until(what, LIMIT, || {
        let status = shop.dev.status()?;
        if seen(&status) {
            return Ok(status);
        }
        Err(Failure::new(status.to_string()))
    })
}

#[test]
fn a_commit_with_an_error_changes_nothing_and_the_next_good_one_recovers() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let good = shop.dev.git(&["rev-parse", "HEAD"])?;
    shop.dev.wait_serving(&good, LIMIT)?;

    let bad = shop.dev.commit_edit(REVIEWS, &[("to v2", "to v3")])?;
    let status = wait_status(&shop, "the refusal in the status", |status| {
        status["ref"]["state"] == "policy_invalid" && status["ref"]["tip"] == bad.as_str()
    })?;
    let finding = &status["findings"][0];
    assert_eq!(finding["code"], "MSH0305", "{status}");
    assert_eq!(finding["file"], REVIEWS, "{status}");
    assert_eq!(status["head"]["commit"], good.as_str(), "{status}");
    shop.dev.wait_serving(&good, LIMIT)?;

    let fixed = shop.dev.commit_edit(REVIEWS, &[("to v3", "to v2")])?;
    shop.dev.wait_serving(&fixed, LIMIT)?;
    let status = shop.dev.status()?;
    assert_eq!(status["ref"]["state"], "following", "{status}");
    assert_eq!(
        status["findings"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    assert_eq!(no_failures(&shop)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_force_push_is_refused_and_reported() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let first = shop.dev.git(&["rev-parse", "HEAD"])?;
    let second = shop.dev.commit_edit(
        REVIEWS,
        &[("weight=90", "weight=80"), ("weight=10", "weight=20")],
    )?;
    shop.dev.wait_serving(&second, LIMIT)?;

    shop.dev.git(&["reset", "--quiet", "--hard", &first])?;
    shop.dev
        .git(&["push", "--quiet", "--force", "origin", "HEAD"])?;
    let status = wait_status(&shop, "the rewritten ref in the status", |status| {
        status["ref"]["state"] == "ref_rewritten"
    })?;
    assert_eq!(status["head"]["commit"], second.as_str(), "{status}");
    shop.dev.wait_serving(&second, LIMIT)?;
    assert_eq!(no_failures(&shop)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn where_lists_the_proxies_that_serve_a_commit() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let first = shop.dev.git(&["rev-parse", "HEAD"])?;
    let proxies = shop.dev.wait_serving(&first, LIMIT)?.len();
    let listed = wait_until("every proxy reported as serving", LIMIT, || {
        let answer =
            mesh_tests::unix_request(shop.dev.socket(), "GET", &format!("/where/{first}"), "")?
                .json()?;
        let listed = answer["proxies"].as_array().cloned().unwrap_or_default();
        if listed.len() == proxies && listed.iter().all(|proxy| proxy["serves"] == true) {
            return Ok(listed);
        }
        Err(Failure::new(answer.to_string()))
    })?;
    assert_eq!(listed.len(), proxies);
    Ok(())
}

fn no_failures(shop: &Bookshop) -> Result<Vec<String>, Failure> {
    Ok(shop
        .dev
        .traffic()?
        .into_iter()
        .filter(|edge| edge.failed > 0)
        .map(|edge| format!("{edge:?}"))
        .collect())
}
