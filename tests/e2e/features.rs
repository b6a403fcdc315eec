//! Words of the policy that the proxies of this release do not carry out: who needs one refuses the
//! generation by name and serves the last good one on; who does not need it takes it.

use mesh_tests::{Failure, wait_until};

use crate::support::{LIMIT, bookshop};

const REVIEWS: &str = "teams/reviews/reviews.kdl";
const PLAIN: &str = "port 9080 protocol=http\n";
/// It is the proxy of `reviews` that would have to show bodies to another service.
const GUARDED: &str = "port 9080 protocol=http\n    require authorizer gate\n";
const SERVICE: &str = "service reviews {";
const GATE: &str = "authorizer gate { to ratings protocol=http; on-failure allow; body \"8KiB\" }\n\
                    service reviews {";

#[test]
fn a_proxy_that_lacks_a_feature_says_so_and_serves_the_last_good_generation() -> Result<(), Failure>
{
    let shop = bookshop(20)?;
    let good = shop.dev.git(&["rev-parse", "HEAD"])?;
    shop.dev.wait_serving(&good, LIMIT)?;

    let limited = shop
        .dev
        .commit_edit(REVIEWS, &[(PLAIN, GUARDED), (SERVICE, GATE)])?;
    let refused = wait_until("the refusal in the status", LIMIT, || {
        let status = shop.dev.status()?;
        let proxies = status["proxies"].as_array().cloned().unwrap_or_default();
        let reviews = proxies
            .into_iter()
            .find(|proxy| proxy["workload"] == "reviews");
        reviews
            .filter(|proxy| proxy["phase"] == "rejected")
            .ok_or_else(|| Failure::new(status.to_string()))
    })?;
    assert_eq!(
        refused["reason"], "unknown_feature:access.authorizer.body",
        "{refused}"
    );
    let served = shop.served("reviews")?;
    assert_eq!(served.commit.as_deref(), Some(good.as_str()));
    for other in ["productpage", "ratings", "details"] {
        wait_until("the others on the new commit", LIMIT, || {
            let served = shop.served(other)?;
            if served.commit.as_deref() == Some(limited.as_str()) {
                return Ok(());
            }
            Err(Failure::new(format!("{served:?}")))
        })?;
    }
    let before = shop.dev.edge("productpage", "reviews")?.requests;
    wait_until("traffic that goes on", LIMIT, || {
        let now = shop.dev.edge("productpage", "reviews")?;
        if now.requests >= before + 20 {
            return Ok(());
        }
        Err(Failure::new(format!("{now:?}")))
    })?;
    let counted = shop.metric(
        "reviews",
        "mesh_config_rejected_total",
        &["reason=\"unknown_feature\""],
    )?;
    assert!(counted >= 1.0, "{counted}");

    let fixed = shop
        .dev
        .commit_edit(REVIEWS, &[(GUARDED, PLAIN), (GATE, SERVICE)])?;
    shop.dev.wait_serving(&fixed, LIMIT)?;
    let failed: Vec<_> = shop
        .dev
        .traffic()?
        .into_iter()
        .filter(|edge| edge.failed > 0)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    Ok(())
}
