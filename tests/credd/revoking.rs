//! `DELETE /token`.

use std::time::Duration;

use crate::bed::{Bed, eventually};
use crate::description::{MINT, REVOKE};
use crate::fake::Fault;

#[tokio::test]
async fn delete_revokes_every_live_token_and_forgets_it() {
    let bed = Bed::new().await;
    let first = bed.token().await;
    bed.pass(3400);
    let second = bed.token().await;
    bed.get("/token?repo=other/lib").await;
    assert_eq!(
        bed.github.live().len(),
        3,
        "the older one is good for a while yet"
    );
    let reply = bed.delete().await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert!(bed.github.live().is_empty());
    let third = bed.token().await;
    assert!(third != first && third != second);
}

#[tokio::test]
async fn delete_without_a_token_asks_nothing_of_github() {
    let bed = Bed::new().await;
    assert_eq!(bed.delete().await.status, 204);
    bed.token().await;
    bed.pass(3600);
    assert_eq!(bed.delete().await.status, 204, "it has expired");
    assert_eq!(bed.github.count(REVOKE), 0);
}

#[tokio::test]
async fn a_token_that_github_does_not_know_any_more_counts_as_revoked() {
    let bed = Bed::new().await;
    bed.token().await;
    for grant in &mut bed.github.state().grants {
        grant.revoked = true;
    }
    assert_eq!(bed.delete().await.status, 204);
}

#[tokio::test]
async fn where_github_fails_502_names_it_and_revocation_is_tried_again() {
    for fault in [
        Fault::Answer(500, vec![], String::new()),
        Fault::Reset,
        Fault::Answer(403, vec![], "{}".into()),
    ] {
        let bed = Bed::new().await;
        let first = bed.token().await;
        bed.github.fault(REVOKE, fault, usize::MAX);
        let reply = bed.delete().await;
        assert_eq!(reply.error(502), "not-revoked");
        assert!(!reply.body.contains(&first[..12]), "{reply:?}");
        assert_eq!(bed.delete().await.status, 204, "forgotten all the same");
        assert_ne!(bed.token().await, first, "forgotten all the same");
        assert!(bed.github.live().contains(&first));
        bed.github.heal();
        eventually("it is revoked in the end", || {
            !bed.github.live().contains(&first)
        })
        .await;
    }
}

#[tokio::test]
async fn delete_takes_the_token_that_is_just_being_minted_with_it() {
    let bed = Bed::new().await;
    bed.github.state().delay = Duration::from_millis(100);
    let (token, reply) = tokio::join!(bed.get("/token"), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        bed.delete().await
    });
    assert_eq!((token.status, reply.status), (200, 204));
    assert!(bed.github.live().is_empty());
}

#[tokio::test]
async fn who_revokes_and_hangs_up_leaves_no_token_behind() {
    let bed = Bed::new().await;
    bed.token().await;
    bed.get("/token?repo=other/lib").await;
    bed.github.state().delay = Duration::from_millis(100);
    let hung_up = tokio::time::timeout(Duration::from_millis(50), bed.delete()).await;
    assert!(hung_up.is_err(), "GitHub was too quick for this test");
    eventually("both are revoked", || bed.github.live().is_empty()).await;
    eventually("it is over", || !bed.keeper.has_something_to_lose()).await;
}

#[tokio::test]
async fn delete_in_a_loop_costs_github_nothing() {
    let bed = Bed::new().await;
    for _ in 0..200 {
        bed.get("/token").await;
        bed.delete().await;
    }
    assert_eq!((bed.github.count(MINT), bed.github.count(REVOKE)), (30, 30));
}
