//! The ring beside two others: rendezvous hashing, which needs no circle and is therefore exact
//! where a ring is only fair on average, and ketama, the ring that nginx made common.

use std::net::{Ipv4Addr, SocketAddr};

use inferring_policy::{HashRing, RingMember};
use inferring_types::RoutingKey;
use pingora_ketama::{Bucket, Continuum};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const KEYS: usize = 20_000;

fn keys(seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..KEYS).map(|_| random.u64(..)).collect()
}

fn fleet(weights: &[f64]) -> Vec<RingMember> {
    let member = |(index, &weight)| {
        let id = address(index).to_string();
        RingMember { id: id.as_str().into(), weight }
    };
    weights.iter().enumerate().map(member).collect()
}

fn address(index: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, (index / 250) as u8, (index % 250 + 1) as u8), 8001).into()
}

/// Rendezvous hashing: every member draws a number for the key, the one whose weighted draw is
/// best owns it. Thaler and Ravishankar (1998), with the weights of Schindelhauer and Schomaker.
fn rendezvous(members: &[RingMember], key: u64) -> usize {
    let score = |member: &RingMember| {
        let draw = xxh3_64_with_seed(member.id.as_str().as_bytes(), key);
        -((draw as f64 + 0.5) / 2f64.powi(64)).ln() / member.weight
    };
    let scores = members.iter().map(score).enumerate();
    scores.min_by(|a, b| a.1.total_cmp(&b.1)).expect("a fleet is never empty").0
}

fn ring(members: &[RingMember], points: u32) -> impl Fn(u64) -> usize {
    let ring = HashRing::build(members, points).unwrap();
    move |key| ring.primary(RoutingKey(key)).unwrap()
}

/// Each member's load over its fair share.
fn loads(members: &[RingMember], keys: &[u64], place: impl Fn(u64) -> usize) -> Vec<f64> {
    let mut counts = vec![0.0; members.len()];
    for &key in keys {
        counts[place(key)] += 1.0;
    }
    let total = members.iter().map(|member| member.weight).sum::<f64>();
    let fair = |member: &RingMember| keys.len() as f64 * member.weight / total;
    counts.into_iter().zip(members).map(|(count, member)| count / fair(member)).collect()
}

#[test]
fn members_get_what_rendezvous_hashing_gives_them() {
    for (seed, weights) in
        [[1.0; 3].as_slice(), &[1.0; 10], &[1.0, 1.0, 2.0, 4.0], &[0.5, 0.5, 1.0, 1.0, 3.0]]
            .into_iter()
            .enumerate()
    {
        let (members, keys) = (fleet(weights), keys(seed as u64));
        let exact = loads(&members, &keys, |key| rendezvous(&members, key));
        let ours = loads(&members, &keys, ring(&members, HashRing::DEFAULT_POINTS));
        for ((exact, ours), member) in exact.into_iter().zip(ours).zip(&members) {
            // The oracle itself must be right for the comparison to mean anything.
            assert!((exact - 1.0).abs() < 0.1, "{member:?}: rendezvous {exact:.3}");
            // Three deviations of 512 points times the weight, and the noise of both samples.
            let tolerance = 3.0 / (512.0 * member.weight).sqrt() + 0.05;
            assert!((ours - exact).abs() < tolerance, "{member:?}: {ours:.3} against {exact:.3}");
        }
    }
}

#[test]
fn as_few_keys_move_as_with_rendezvous_hashing() {
    for count in [2, 5, 10, 30] {
        let (before, after) = (fleet(&vec![1.0; count]), fleet(&vec![1.0; count + 1]));
        let keys = keys(count as u64);
        let moved = |old: &dyn Fn(u64) -> usize, new: &dyn Fn(u64) -> usize| {
            keys.iter().filter(|&&key| old(key) != new(key)).count() as f64
        };
        let exact = moved(&|key| rendezvous(&before, key), &|key| rendezvous(&after, key));
        let points = HashRing::DEFAULT_POINTS;
        let ours = moved(&ring(&before, points), &ring(&after, points));
        assert!((ours / exact - 1.0).abs() < 0.2, "{count} + 1: {ours} against {exact} keys");
    }
}

/// With as many points as ketama has (40 digests of 4 points each) the two rings are equally
/// even; the default of 512 is more so.
#[test]
fn the_ring_is_as_even_as_ketama_with_as_many_points() {
    const KETAMA_POINTS: u32 = 160;
    const FLEETS: usize = 40;
    for count in [3, 10] {
        let mut sums = [0.0; 3];
        for number in 0..FLEETS {
            // Another range of addresses makes another fleet.
            let first = number * count;
            let members = fleet(&vec![1.0; first + count]).split_off(first);
            let buckets = (first..first + count).map(|index| Bucket::new(address(index), 1));
            let continuum = Continuum::new(&buckets.collect::<Vec<_>>());
            let ketama = |key: u64| {
                let chosen = continuum.node(&key.to_le_bytes()).unwrap();
                (first..).position(|index| address(index) == chosen).unwrap()
            };
            let keys = keys(number as u64);
            for (sum, loads) in sums.iter_mut().zip([
                loads(&members, &keys, ketama),
                loads(&members, &keys, ring(&members, KETAMA_POINTS)),
                loads(&members, &keys, ring(&members, HashRing::DEFAULT_POINTS)),
            ]) {
                *sum += loads.into_iter().fold(0.0, f64::max);
            }
        }
        let [ketama, equal, default] = sums.map(|sum| sum / FLEETS as f64);
        let case = format!(
            "{count} workers: ketama {ketama:.3}, ours with {KETAMA_POINTS} points {equal:.3}, \
             with {} {default:.3}",
            HashRing::DEFAULT_POINTS
        );
        println!("{case}");
        // A ring's heaviest load deviates by 0.04, the mean of 40 rings by 0.007.
        assert!((equal - ketama).abs() < 0.03, "{case}");
        assert!(default < ketama, "{case}");
    }
}
