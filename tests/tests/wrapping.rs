//! Wrapped answers as those meet them who hand them on: a courier that may wrap and not read, a recipient without a session, and
//! somebody who comes second.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{fs, time::Duration};

use strongroom_client::{Content, ErrorKind, SealKind, SecretBytes};
use strongroom_tests::{
    http::http_get,
    world::{World, anonymous},
};

const VALUE: &str = "canary-of-the-wrapped";
const MINUTE: Duration = Duration::from_secs(60);
const POLICY: &str = "
kind: Role
name: shop-secrets
rules:
- {paths: [secret/shop/**], verbs: [read]}
---
kind: Binding
name: courier
role: shop-secrets
subjects:
- user: {method: userpass, name: courier}
conditions: {wrapped: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_courier_hands_on_what_only_the_recipient_sees() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    root.put("secret/shop/db").value("password", SecretBytes::from(VALUE)).send().await.unwrap();
    world.apply(POLICY).await.unwrap();
    let courier = world.user("courier", &[]).await.unwrap();

    let refused = courier.get("secret/shop/db").await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Denied { .. }));
    assert!(refused.to_string().contains("only with a wrapped answer"), "{refused}");
    let elsewhere = courier.wrapping().secret("secret/bank/db", None, MINUTE).await.unwrap_err();
    assert!(!elsewhere.to_string().contains("wrapped"), "{elsewhere}");

    let wrapped = courier.wrapping().secret("secret/shop/db", None, MINUTE).await.unwrap();
    assert!(!format!("{wrapped:?}").contains(wrapped.token.expose_str().unwrap()));
    // The recipient has no session, and is who comes first.
    let recipient = anonymous(&world.server).await.unwrap();
    let unwrapped = recipient.unwrap(&wrapped.token).await.unwrap();
    assert_eq!((&*unwrapped.path, &*unwrapped.wrapped_by), ("secret/shop/db", "userpass/courier"));
    assert_eq!(unwrapped.id, wrapped.id);
    let Content::Secret(secret) = unwrapped.content else { panic!("no secret") };
    assert_eq!((secret.text("password"), secret.version), (Some(VALUE), 1));

    let again = courier.unwrap(&wrapped.token).await.unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::AlreadyOpened), "{again}");
    let nothing = recipient.unwrap(&SecretBytes::from("srw1_nothing")).await.unwrap_err();
    assert!(nothing.is_not_found(), "{nothing}");
    let (_, metrics) = http_get(world.server.ops, "/metrics").unwrap();
    assert!(metrics.contains("strongroom_unwrapped_again_total 1\n"));

    // Nothing of it is anywhere else.
    let audit = fs::read_dir(world.home.path().join("audit")).unwrap();
    let audit = audit.map(|file| fs::read(file.unwrap().path()).unwrap());
    let told = audit.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect::<String>();
    assert!(told.contains("Wrapping.Unwrap") && told.contains("\"version\":1"));
    for text in [told, world.server.log(), metrics] {
        assert!(!text.contains(VALUE) && !text.contains("srw1_"));
    }
}
