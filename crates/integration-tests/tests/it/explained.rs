//! Answers say, when asked, which worker they come from and why.

use std::collections::BTreeMap;

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::models::{self, TRIPLE};

use crate::cluster;

/// The members of `X-Inferring-Explain`, as they are written.
fn explained(answer: &Answer) -> BTreeMap<String, String> {
    let field = answer.header("x-inferring-explain").expect("it was asked for");
    let member = |member: &str| {
        let (key, value) = member.split_once('=').expect("a member has a value");
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    field.split(", ").map(member).collect()
}

fn ask(client: &Client, number: u64) -> BTreeMap<String, String> {
    let body = TRIPLE.body(number).to_string();
    let headers = [("content-type", "application/json"), ("x-inferring-explain", "1")];
    let answer = client.post(&TRIPLE.path(), &headers, body);
    let node = TRIPLE.check(number, &answer).unwrap();
    let explained = explained(&answer);
    assert_eq!(explained["worker"], node, "the one that answered");
    explained
}

#[test]
fn an_answer_says_which_worker_gave_it_and_why_and_who_stands_in_when_that_one_is_gone() {
    let mut cluster = cluster().models([models::named("int64_scale")]).workers(2).start();
    let client = cluster.client();
    let first = ask(&client, 1);
    let home = first["worker"].clone();
    for (key, expected) in
        [("attempt", "1"), ("reason", "primary"), ("cache", "computed"), ("batch", "1")]
    {
        assert_eq!(first[key], expected, "{key} of {first:?}");
    }
    let micros = |key: &str| first[key].parse::<u64>().expect("whole microseconds");
    assert!(micros("compute_us") <= micros("worker_us"), "{first:?}");
    assert!(micros("queue_us") <= micros("worker_us"), "{first:?}");
    assert!(first.contains_key("gateway_us"), "{first:?}");
    let again = ask(&client, 1);
    assert_eq!(
        [&again["worker"], &again["reason"], &again["cache"], &again["batch"]],
        [&home, "primary", "hit", "0"],
    );

    let number: usize = home.strip_prefix("worker_").unwrap().parse().unwrap();
    let other = format!("worker_{}", 3 - number);
    cluster.worker_mut(number).kill();
    // It is not known yet that it is gone, or it is.
    let moved = ask(&client, 1);
    assert_eq!([&moved["worker"], &moved["cache"]], [&other, "computed"]);
    let why = (&*moved["attempt"], &*moved["reason"]);
    assert!([("2", "retry"), ("1", "unreachable")].contains(&why), "{moved:?}");
    cluster.wait_until_reachable(1);
    let later = ask(&client, 1);
    assert_eq!(
        [&later["worker"], &later["attempt"], &later["reason"], &later["cache"]],
        [&other, "1", "unreachable", "hit"],
    );
    // Without being asked, it says nothing of the kind.
    let plain = client.post_json(&TRIPLE.path(), &TRIPLE.body(1));
    assert_eq!(plain.header("x-inferring-explain"), None);
}
