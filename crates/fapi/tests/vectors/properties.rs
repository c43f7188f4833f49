//! Properties over all vectors.

use fapi::ProvenTokens;
use http::HeaderValue;

use crate::{
    make,
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
        Some(Self { world, step, proven, places, name: case.name.clone() })
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

/// Set `FAPI_FLIPS` for more, such as 1000000 with `--release`.
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
