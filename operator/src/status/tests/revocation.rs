//! Of Revocations.

use super::*;

fn revocation(uid: &str, expires: u64) -> Revoking {
    let revoked = fapi::Revoked::Pod(uid.into());
    let spec = fapi::Revocation::new(revoked, None, UnixTime::from_secs(expires)).unwrap();
    Revoking { generation: 1, spec: Some(spec), fault: None }
}

#[test]
fn a_revocation_tells_which_pods_have_it_and_once_all_do_it_stays_so() {
    let (view, expires) = (view(bank()), NOW.as_secs() + 100);
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let name = ObjectId::new(Kind::Revocation, None, "stolen").unwrap();
    let stolen = revocation("stolen", expires);
    let objects = BTreeMap::from([(name.clone(), stolen.clone())]);
    let (mut since, mut last) = (Since::default(), Documents::new());
    let have = std::cell::RefCell::new(HashMap::<String, u64>::new());
    let shut_out = std::cell::RefCell::new(Vec::<String>::new());
    let mut said = |objects: &BTreeMap<ObjectId, Revoking>, in_force: &InForce, now: UnixTime| {
        let acks = |uid: &str| PodAcks {
            streams: 1,
            revocations: have.borrow().get(uid).copied().unwrap_or_default(),
            ..PodAcks::default()
        };
        let is_revoked = |pod: &Pod| shut_out.borrow().contains(&pod.uid);
        let pods = Pods::new(&view, &issuer, acks, is_revoked, &Pods::default(), now);
        since.look(objects, in_force);
        last = revocations(objects, &since, &pods, now, &last);
        let Some(Status::Revocation(status)) = last.get(&name) else { panic!("{last:?}") };
        let condition = find(&status.conditions, "Programmed");
        let ready = find(&status.conditions, "Ready");
        assert_eq!(ready.status, condition.status);
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    };
    let owned = |status: &str, reason: &str, message: &str| (status.to_owned(), reason.to_owned(), message.to_owned());
    let nothing = InForce::new(5, Vec::new());
    let (status, reason, _) = said(&objects, &nothing, NOW);
    assert_eq!((&*status, &*reason), ("False", "Pending"));
    // From epoch 6 on; what comes later changes nothing about it.
    let entered: Vec<fapi::Revocation> = stolen.spec.iter().cloned().collect();
    let uids: Vec<String> = view.pods().map(|pod| pod.uid.clone()).collect();
    let all = uids.len();
    assert_eq!(
        said(&objects, &InForce::new(6, entered.clone()), NOW),
        owned("False", "Pending", &format!("in force on 0 of {all} pods"))
    );
    have.borrow_mut().insert(uids[0].clone(), 6);
    have.borrow_mut().insert(uids[1].clone(), 5);
    let later = InForce::new(9, entered);
    assert_eq!(
        said(&objects, &later, NOW),
        owned("False", "PartiallyProgrammed", &format!("in force on 1 of {all} pods"))
    );
    // Whoever is revoked hears of nothing any more.
    shut_out.borrow_mut().push(uids[2].clone());
    assert_eq!(said(&objects, &later, NOW).2, format!("in force on 1 of {} pods", all - 1));
    let others = uids.iter().filter(|uid| **uid != uids[2]);
    have.borrow_mut().extend(others.map(|uid| (uid.clone(), 6)));
    let everywhere = owned("True", "Programmed", "every pod has it in force");
    assert_eq!(said(&objects, &later, NOW), everywhere);
    have.borrow_mut().clear();
    assert_eq!(said(&objects, &later, NOW), everywhere, "a pod that starts gets it first");
    let (status, reason, _) = said(&objects, &later, UnixTime::from_secs(expires));
    assert_eq!((&*status, &*reason), ("False", "Expired"));
    let broken = Revoking { generation: 1, spec: None, fault: Some("no such field".to_owned()) };
    let (status, reason, message) = said(&BTreeMap::from([(name.clone(), broken)]), &later, NOW);
    assert_eq!((&*status, &*reason), ("False", "Invalid"));
    assert!(message.contains("no such field"));
}
