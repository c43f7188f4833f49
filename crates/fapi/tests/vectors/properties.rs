//! Properties over all vectors.

use fapi::{ProvenTokens, WirePolicy};
use http::HeaderValue;

use crate::{
    format, make,
    run::{Case, Expected, Step, VectorFile, World, load},
};

fn files() -> Vec<VectorFile> {
    make::all().iter().map(|(name, _)| load(name)).collect()
}

#[test]
fn a_decision_is_the_same_each_time() {
    for file in files() {
        for case in &file.cases {
            let once = case.verdicts(&file, &mut ProvenTokens::new());
            assert_eq!(case.verdicts(&file, &mut ProvenTokens::new()), once, "{}", case.name);
        }
    }
}

#[test]
fn a_cached_decision_equals_an_uncached_one() {
    for file in files() {
        for case in &file.cases {
            let world = case.world_in(&file);
            let cold: Vec<_> = case.steps().map(|step| step.verdict(&world, &mut ProvenTokens::new())).collect();
            let mut proven = ProvenTokens::new();
            case.verdicts(&file, &mut proven);
            assert_eq!(case.verdicts(&file, &mut proven), cold, "{}", case.name);
        }
    }
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// An admitted case whose request can be asked with one bit changed.
struct Target {
    world: World,
    step: Step,
    proven: ProvenTokens,
    /// Header and where its token or proof begins.
    places: Vec<(usize, usize)>,
    is_dpop: bool,
    name: String,
}

impl Target {
    fn of(file: &VectorFile, case: &Case) -> Option<Self> {
        if !case.before.is_empty() || case.last.expect != Expected::Admitted {
            return None;
        }
        let (world, step) = (case.world_in(file), case.last.clone());
        let mut proven = ProvenTokens::new();
        // In a world of its own, so that the proof is not used up in this one.
        assert_eq!(step.verdict(&case.world_in(file), &mut proven), Expected::Admitted);
        let mut places = Vec::new();
        let mut is_dpop = false;
        for (at, (name, value)) in step.request.headers.iter().enumerate() {
            match name.as_str() {
                "authorization" => {
                    is_dpop = value.starts_with("DPoP ");
                    places.push((at, value.find(' ')? + 1));
                }
                // Under Bearer a proof is not looked at.
                "dpop" if is_dpop => places.push((at, 0)),
                _ => {}
            }
        }
        Some(Self { world, step, proven, places, is_dpop, name: case.name.clone() })
    }

    /// Asks with one bit changed; `false` if no client could send that.
    fn flip(&mut self, numbers: &mut Numbers) -> bool {
        let (header, start) = self.places[numbers.below(self.places.len())];
        let good = self.step.request.headers[header].1.clone();
        let mut bytes = good.clone().into_bytes();
        let at = start + numbers.below(bytes.len() - start);
        bytes[at] ^= 1 << numbers.below(8);
        let Ok(bad) = String::from_utf8(bytes) else { return false };
        if HeaderValue::from_str(&bad).is_err() {
            return false;
        }
        self.step.request.headers[header].1 = bad;
        let verdict = self.step.verdict(&self.world, &mut self.proven);
        assert_ne!(verdict, Expected::Admitted, "{}: {:?}", self.name, self.step.request);
        self.step.request.headers[header].1 = good;
        true
    }
}

/// `make flips` asks for a million by `FAPI_FLIPS`.
#[test]
fn no_request_with_a_flipped_bit_is_admitted() {
    let wanted: usize = std::env::var("FAPI_FLIPS").map_or(20_000, |text| text.parse().unwrap());
    let files = files();
    let mut targets: Vec<_> =
        files.iter().flat_map(|file| file.cases.iter().filter_map(|case| Target::of(file, case))).collect();
    assert!(targets.len() > 50, "{}", targets.len());
    let (mut numbers, mut done) = (Numbers(0x6661_7069), 0);
    while done < wanted {
        let target = numbers.below(targets.len());
        done += usize::from(targets[target].flip(&mut numbers));
    }
    for target in &mut targets {
        assert_eq!(target.step.verdict(&target.world, &mut target.proven), Expected::Admitted, "{}", target.name);
    }
}

/// Whether a rule of the policy names this path, by another way than the one that is tested.
fn is_ruled(policy: &WirePolicy, method: &str, path: &str) -> bool {
    let bare = path.strip_suffix('/').unwrap_or(path);
    policy.rules.iter().any(|rule| {
        let is_any = rule.paths.is_empty() && rule.path_prefixes.is_empty();
        let is_below =
            |prefix: &String| bare == prefix || bare.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
        (rule.methods.is_empty() || rule.methods.iter().any(|wanted| wanted == method))
            && (is_any || rule.paths.iter().any(|exact| exact == bare) || rule.path_prefixes.iter().any(is_below))
    })
}

/// Every path that differs in one bit.
fn flipped(path: &str) -> impl Iterator<Item = String> {
    (0..path.len() * 8).filter_map(move |bit| {
        let mut bytes = path.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

#[test]
fn a_flipped_path_is_admitted_only_if_rule_and_proof_still_name_it() {
    let (mut admitted, mut refused) = (0, 0);
    for file in files() {
        for (case, is_open) in file.cases.iter().flat_map(|case| [(case, false), (case, true)]) {
            let Some(Target { mut world, mut step, is_dpop, .. }) = Target::of(&file, case) else { continue };
            let mut written = format::World::of(&file, case);
            if is_open {
                // The rules of these cases are for single paths: here they are for all paths.
                for rule in &mut written.policy.rules {
                    rule.paths.clear();
                    rule.path_prefixes = vec!["/".to_owned()];
                }
                world = World::new(&written);
            }
            let good = step.request.path.clone();
            for bad in flipped(&good) {
                step.request.path.clone_from(&bad);
                if step.verdict(&world, &mut ProvenTokens::new()) != Expected::Admitted {
                    refused += 1;
                    continue;
                }
                admitted += 1;
                assert!(is_ruled(&written.policy, &step.request.method, &bad), "{}: {bad}", case.name);
                // `%c3` and `%C3` are the only two spellings of one path that are one bit apart.
                let is_same = bad.eq_ignore_ascii_case(&good) && good.contains('%');
                assert!(!is_dpop || is_same, "{}: {bad}", case.name);
            }
        }
    }
    assert!(admitted > 1_000 && refused > 1_000, "{admitted} admitted, {refused} refused");
}
