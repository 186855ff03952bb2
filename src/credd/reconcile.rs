//! What to do when the drones that there are and the drones that are served are not the same.

use std::collections::BTreeMap;

use crate::drone::{DroneName, Identity, Scope};

/// A drone that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// By this scope.
    pub scope: Scope,
    /// Its socket is still where it was put.
    pub in_place: bool,
}

/// A step towards serving the drones that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The drone is gone: so are its socket, its directory and its tokens.
    Forget(DroneName),
    /// It is another drone of the same name, or its socket was taken away: its tokens are revoked
    /// and its socket is closed, the directory stays for what is served next.
    Close(DroneName),
    /// A drone is to be served.
    Serve(Identity),
}

/// The steps, in their order.
pub fn actions(wanted: &[Identity], served: &BTreeMap<DroneName, Served>) -> Vec<Action> {
    let wanted: BTreeMap<&DroneName, &Identity> =
        wanted.iter().map(|drone| (&drone.name, drone)).collect();
    let mut actions = Vec::new();
    for (name, served) in served {
        match wanted.get(name) {
            None => actions.push(Action::Forget(name.clone())),
            Some(drone) if drone.scope != served.scope || !served.in_place => {
                actions.push(Action::Close(name.clone()));
            }
            Some(_) => {}
        }
    }
    for (name, drone) in wanted {
        let stays = |served: &Served| served.in_place && served.scope == drone.scope;
        if !served.get(name).is_some_and(stays) {
            actions.push(Action::Serve(drone.clone()));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drone(repositories: &[&str]) -> Identity {
        let json = serde_json::json!({ "repositories": repositories });
        Identity::new(Scope::from_json(&json.to_string()).unwrap())
    }

    fn serving(drones: &[Identity], in_place: bool) -> BTreeMap<DroneName, Served> {
        let served = |drone: &Identity| Served {
            scope: drone.scope.clone(),
            in_place,
        };
        drones
            .iter()
            .map(|drone| (drone.name.clone(), served(drone)))
            .collect()
    }

    #[test]
    fn what_is_served_as_it_should_be_is_left_alone() {
        let drones = [drone(&["acme/site"]), drone(&["other/lib"])];
        assert_eq!(actions(&drones, &serving(&drones, true)), []);
        assert_eq!(actions(&[], &BTreeMap::new()), []);
    }

    #[test]
    fn a_new_drone_is_served_and_one_that_is_gone_is_forgotten() {
        let (old, new) = (drone(&["acme/site"]), drone(&["other/lib"]));
        assert_eq!(
            actions(
                std::slice::from_ref(&new),
                &serving(std::slice::from_ref(&old), true)
            ),
            [Action::Forget(old.name), Action::Serve(new)]
        );
    }

    #[test]
    fn another_drone_of_the_same_name_does_not_inherit() {
        let before = drone(&["a-b/c"]);
        for after in [drone(&["a/b-c"]), drone(&["a-b/c", "victim/secret"])] {
            assert_eq!(
                actions(
                    std::slice::from_ref(&after),
                    &serving(std::slice::from_ref(&before), true)
                ),
                [Action::Close(after.name.clone()), Action::Serve(after)]
            );
        }
    }

    #[test]
    fn a_socket_that_was_taken_away_is_put_back() {
        let drones = [drone(&["acme/site"])];
        assert_eq!(
            actions(&drones, &serving(&drones, false)),
            [
                Action::Close(drones[0].name.clone()),
                Action::Serve(drones[0].clone())
            ]
        );
    }

    proptest! {
        /// Repositories 0 to 5, each with or without a second one in its scope.
        #[test]
        fn done_the_served_are_the_wanted(
            wanted in proptest::collection::btree_map(0..6u8, any::<bool>(), 0..6),
            served in proptest::collection::btree_map(0..6u8, any::<(bool, bool)>(), 0..6),
        ) {
            let make = |number: u8, wide: bool| {
                let own = format!("acme/r{number}");
                if wide { drone(&[&own, "acme/more"]) } else { drone(&[&own]) }
            };
            let wanted: Vec<Identity> = wanted.into_iter().map(|(n, wide)| make(n, wide)).collect();
            let mut serving: BTreeMap<DroneName, Served> = served.into_iter().map(|(n, (wide, in_place))| {
                let drone = make(n, wide);
                (drone.name, Served { scope: drone.scope, in_place })
            }).collect();
            for action in actions(&wanted, &serving) {
                match action {
                    Action::Forget(name) => {
                        prop_assert!(!wanted.iter().any(|drone| drone.name == name));
                        prop_assert!(serving.remove(&name).is_some());
                    }
                    Action::Close(name) => prop_assert!(serving.remove(&name).is_some()),
                    Action::Serve(drone) => {
                        let new = Served { scope: drone.scope, in_place: true };
                        prop_assert!(serving.insert(drone.name, new).is_none(), "two on one socket");
                    }
                }
            }
            let scopes: BTreeMap<_, _> = wanted.iter().map(|drone| (&drone.name, &drone.scope)).collect();
            prop_assert!(serving.values().all(|served| served.in_place));
            prop_assert_eq!(serving.iter().map(|(name, served)| (name, &served.scope)).collect::<BTreeMap<_, _>>(), scopes);
        }
    }
}
