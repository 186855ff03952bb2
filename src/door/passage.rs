//! One request on its way through the door.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bollard::models::{ContainerInspectResponse, ImageInspect, Network, NetworkInspect, Volume};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::call::{Ask, Call, OfContainer, OfExec, OfNetwork};
use super::judge::{self, Asked};
use super::rewrite::Rewrite;
use super::serve::Shared;
use super::stop::{Judged, Stop};
use super::upstream::{Body, empty, full, passing, whole};
use super::wire::{becomes_another, collected, plain, replaced, resized, taken, told};
use super::{Event, Held, answers, refused};
use crate::devcontainer::judging::{images, policy};
use crate::devcontainer::{MAX_NETWORKS, MAX_SERVICES};
use crate::docker::{Login, is_overlap};
use crate::error::Error;
use crate::timeline::Step;

/// How many of the requests that are not listed are remembered.
const MAX_UNLISTED: usize = 20;

/// How many volumes may be asked for.
const MAX_VOLUMES: usize = 64;

/// Answers a request.
pub async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let passage = Passage {
        shared: Arc::clone(shared),
        about: None,
    };
    passage.answer(request).await
}

/// One request on its way.
struct Passage {
    shared: Arc<Shared>,
    /// The name of the container that is to be created.
    about: Option<String>,
}

impl Passage {
    async fn answer(mut self, request: Request<Incoming>) -> Response<Body> {
        match self.through(request).await {
            Ok(answer) => answer,
            Err(stop) => self.stopped(stop).await,
        }
    }

    async fn stopped(&self, stop: Stop) -> Response<Body> {
        if let Stop::Refused(what) = &stop {
            let error = refused(&self.shared.bounds, self.about.as_deref(), what);
            self.end(error).await;
        }
        if let Stop::NotListed(what) = &stop {
            let mut state = self.shared.state();
            if state.unlisted.len() < MAX_UNLISTED && !state.unlisted.contains(what) {
                state.unlisted.push(what.clone());
            }
        }
        told(stop.status(), &json!({ "message": stop.message() }))
    }

    async fn through(&mut self, request: Request<Incoming>) -> Judged<Response<Body>> {
        let call = Call::read(request.method(), request.uri());
        let shared = Arc::clone(&self.shared);
        let _turn = match &call {
            Ok(call) if call.ask.has_body() => Some(shared.turns.acquire().await),
            _ => None,
        };
        if self.shared.trusted {
            return match call {
                Ok(call) => self.trusted(call, request).await,
                Err(_) => self.untouched(request).await,
            };
        }
        let call = call?;
        match call.ask.clone() {
            Ask::Server(_) => self.pass(&call, request).await,
            Ask::Build(_) => {
                judge::build(&call.query, &self.shared.bounds)?;
                self.pass(&call, request).await
            }
            Ask::Events => {
                let answer = self.ask(&call, request, empty()).await?;
                let shared = Arc::clone(&self.shared);
                let own = move |id: &str| shared.state().own.name(id).is_some();
                Ok(replaced(answer, |body| answers::events(body, own)))
            }
            Ask::Containers | Ask::Networks | Ask::Volumes | Ask::Images => {
                let about = call.ask.clone();
                let cut = move |all: &mut Value, shared: &Shared| match about {
                    Ask::Containers => answers::containers(all, &shared.state().own),
                    Ask::Networks => answers::networks(all, &shared.state().own, &shared.bounds),
                    Ask::Volumes => answers::volumes(all, &shared.bounds),
                    _ => answers::images(all, &shared.bounds),
                };
                self.cut(&call, request, cut).await
            }
            Ask::Create => self.create(call, request).await,
            Ask::Container(reference, of) => {
                let id = self.container(&reference)?;
                self.of_container(&call, id, of, request).await
            }
            Ask::Exec(id, of) => {
                if !self.shared.state().own.has_exec(&id) {
                    return Err(Stop::NotFound(format!("exec instance: {id:.80}")));
                }
                if of != OfExec::Start {
                    return self.pass(&call, request).await;
                }
                let (request, body) = taken(request).await?;
                let body = judge::exec(&body, &self.shared.bounds.secrets)?;
                self.hand_on(&call, request, full(body.to_string())).await
            }
            Ask::CreateNetwork => {
                let (request, body) = taken(request).await?;
                let body = judge::network(&body, &self.shared.bounds)?;
                if self.shared.state().own.add_network() > MAX_NETWORKS {
                    return Err(too_many_networks());
                }
                self.make_way().await?;
                self.create_network(&call, request.headers(), body).await
            }
            Ask::Network(reference, of) => self.of_network(&call, &reference, of, request).await,
            Ask::CreateVolume => {
                let (request, body) = taken(request).await?;
                let body = judge::volume(&body, &self.shared.bounds)?;
                if self.shared.state().own.add_volume() > MAX_VOLUMES {
                    return Err(Stop::Refused(format!("more than {MAX_VOLUMES} volumes")));
                }
                self.hand_on(&call, request, full(body.to_string())).await
            }
            Ask::Volume(name) => {
                if !self.shared.bounds.has(&name) {
                    return Err(Stop::NotFound(format!("volume: {name:.80}")));
                }
                self.pass(&call, request).await
            }
            Ask::Image(name) => {
                self.image(&call, &name).await?;
                self.pass(&call, request).await
            }
            Ask::Pull => {
                let image = pulled(&call)?;
                judge::pull(&image).await?;
                self.pull(&call, &image, request).await
            }
            Ask::Tag(name) => self.tag(&call, &name, request).await,
        }
    }

    /// For a trusted repository nothing is judged; its container is held all the same.
    async fn trusted(&mut self, call: Call, request: Request<Incoming>) -> Judged<Response<Body>> {
        match &call.ask {
            Ask::Create => {
                self.make_way().await?;
                let (request, body) = taken(request).await?;
                let mut asked = Rewrite::read(&body)?;
                let name: String = asked.take("Image")?.unwrap_or_default();
                let image = self.shown_image(&call, &name).await?;
                let image = image.ok_or_else(|| no_image(&name))?;
                let name = call.query.get("name").unwrap_or_default().to_owned();
                let body = judge::labelled(&body, &name, &image, &self.shared.bounds)?;
                let request = request.map(|()| full(body.to_string()));
                let timed = self.timed(&name);
                let answer = self.shared.docker.make(resized(request)).await?;
                let (answer, id) = created(answer).await?;
                drop(timed);
                if let Some(id) = id {
                    self.shared.state().own.add(&id, &name);
                }
                Ok(answer)
            }
            Ask::CreateNetwork => {
                let (request, body) = taken(request).await?;
                let asked = serde_json::from_slice(&body);
                let asked = asked.map_err(|error| Stop::Malformed(error.to_string()))?;
                if !judge::wants_addresses(&asked) {
                    let request = request.map(|()| full(body));
                    return self.shared.docker.send(resized(request)).await.map(plain);
                }
                self.create_network(&call, request.headers(), asked).await
            }
            Ask::Container(_, OfContainer::Exec) if !self.shared.bounds.secrets.is_empty() => {
                let (request, body) = taken(request).await?;
                let asked = serde_json::from_slice(&body);
                let mut asked = asked.map_err(|error| Stop::Malformed(error.to_string()))?;
                judge::reveal(&mut asked, &self.shared.bounds.secrets);
                self.hand_on(&call, request, full(asked.to_string())).await
            }
            Ask::Containers => {
                let old = self.shared.state().replaced.clone();
                let Some(old) = old else {
                    return self.untouched(request).await;
                };
                let cut = move |all: &mut Value, _: &Shared| answers::without(all, &old);
                self.cut(&call, request, cut).await
            }
            Ask::Networks | Ask::Network(_, OfNetwork::Inspect) => {
                let shown = |shown: &mut Value, _: &Shared| match shown {
                    Value::Array(all) => all.iter_mut().for_each(answers::without_device),
                    one => answers::without_device(one),
                };
                self.cut(&call, request, shown).await
            }
            Ask::Pull => match pulled(&call) {
                Ok(image) if self.shared.bounds.registries.of(&image).is_some() => {
                    self.pull(&call, &image, request).await
                }
                _ => self.untouched(request).await,
            },
            Ask::Container(reference, OfContainer::Start) => {
                let own = self
                    .shared
                    .state()
                    .own
                    .container(reference)
                    .map(str::to_owned);
                match own {
                    Some(id) => self.start(&call, id, request).await,
                    None => self.untouched(request).await,
                }
            }
            _ => self.untouched(request).await,
        }
    }

    /// Hands a request on as it is.
    async fn untouched(&self, mut request: Request<Incoming>) -> Judged<Response<Body>> {
        let upgrade = becomes_another(&mut request);
        let (mut head, body) = request.into_parts();
        head.headers.remove(CONNECTION);
        head.headers.remove(TRANSFER_ENCODING);
        if upgrade.is_some() {
            let becomes = HeaderValue::from_static("Upgrade");
            head.headers.insert(CONNECTION, becomes);
        }
        let request = Request::from_parts(head, passing(body));
        let answer = self.shared.docker.send(request).await?;
        Ok(self.joined(answer, upgrade))
    }

    async fn of_container(
        &mut self,
        call: &Call,
        id: String,
        of: OfContainer,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        // By its whole id, which is what was judged.
        let mut call = call.clone();
        call.ask = Ask::Container(id.clone(), of);
        if of.is_change() {
            self.make_way().await?;
        }
        match of {
            OfContainer::Start => self.start(&call, id, request).await,
            OfContainer::Restart if self.waits(&id) => {
                Err(Stop::NotListed("the restart of a drone".to_owned()))
            }
            OfContainer::Rename => self.rename(&call, &id, request).await,
            // What comes with it could be a form, in which Docker would look for parameters.
            OfContainer::Restart | OfContainer::Signal(_) | OfContainer::Wait => {
                self.hand_on(&call, request, empty()).await
            }
            OfContainer::Exec => {
                let (request, body) = taken(request).await?;
                let body = judge::exec(&body, &self.shared.bounds.secrets)?;
                let answer = self.ask(&call, request, full(body.to_string())).await?;
                let (answer, body) = collected(answer).await?;
                if let Some(exec) = created_id(&body)
                    && !self.shared.state().own.add_exec(&exec)
                {
                    return Err(Stop::NotListed("so many commands in containers".to_owned()));
                }
                Ok(answer)
            }
            OfContainer::Remove => {
                let answer = self.ask(&call, request, empty()).await?;
                if answer.status().is_success() {
                    self.shared.state().own.remove(&id);
                }
                Ok(plain(answer))
            }
            _ => self.pass(&call, request).await,
        }
    }

    /// Whether this is the drone's own container, which was not started yet.
    fn waits(&self, id: &str) -> bool {
        let state = self.shared.state();
        let name = self.shared.bounds.identity.name.as_str();
        state.own.name(id) == Some(name) && state.released.as_deref() != Some(id)
    }

    /// The drone's own container, if it was not furnished yet and this one is a sibling that mounts the same
    /// volume: the clone is not there yet, so a mount of a part of it could not start.
    async fn awaits(&self, call: &Call, id: &str) -> Judged<Option<String>> {
        let volume = self.shared.bounds.identity.name.as_str();
        let Some(drone) = self.shared.unfurnished() else {
            return Ok(None);
        };
        let ask = call.instead(Ask::Container(id.to_owned(), OfContainer::Inspect));
        let shown: Option<ContainerInspectResponse> = self.shared.docker.show(&ask).await?;
        let mut mounts = shown
            .into_iter()
            .flat_map(|shown| shown.mounts.unwrap_or_default());
        let mounts_it = mounts.any(|mount| mount.name.as_deref() == Some(volume));
        Ok(mounts_it.then_some(drone))
    }

    /// Starts a container; the drone's own once it was furnished.
    async fn start(
        &self,
        call: &Call,
        id: String,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        if !self.waits(&id) {
            return match self.awaits(call, &id).await? {
                Some(_) => self.start_sibling(call, request).await,
                None => self.hand_on(call, request, empty()).await,
            };
        }
        let Some(holding) = self.shared.hold(&id) else {
            return Err(Stop::NotListed("the start of a container twice".to_owned()));
        };
        let turn = self.shared.furnishing.lock().await;
        let tell = self.held(&id, true).await?;
        {
            let mut state = self.shared.state();
            state.furnished = Some(id.clone());
            state.released = Some(id.clone());
        }
        drop((turn, holding));
        let answer = self.ask(call, request, empty()).await?;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
            let _ = tell.send(Ok(()));
            return Ok(plain(answer));
        }
        let (answer, body) = collected(answer).await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = body["message"].as_str().unwrap_or("it gave no reason");
        let _ = tell.send(Err(why.to_owned()));
        Ok(answer)
    }

    /// Starts a sibling that shows the clone, once the drone's container was furnished.
    async fn start_sibling(
        &self,
        call: &Call,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        let turn = self.shared.furnishing.lock().await;
        // Another may have waited for the same.
        if let Some(drone) = self.shared.unfurnished() {
            let tell = self.held(&drone, false).await?;
            self.shared.state().furnished = Some(drone);
            // How the sibling's start ends is for who asked for it.
            let _ = tell.send(Ok(()));
        }
        drop(turn);
        self.hand_on(call, request, empty()).await
    }

    /// Waits until the drone's container is furnished. Returns the channel in which to say how the start went.
    async fn held(
        &self,
        drone: &str,
        is_drones: bool,
    ) -> Judged<oneshot::Sender<Result<(), String>>> {
        let (go, may_go) = oneshot::channel();
        let (tell, started) = oneshot::channel();
        let held = Held {
            is_drones,
            container: drone.to_owned(),
            go,
            started,
        };
        let sent = self.shared.events.send(Event::Held(held)).await;
        sent.map_err(|_| no_container(drone))?;
        if may_go.await.is_err() {
            self.shared.state().own.remove(drone);
            return Err(no_container(drone));
        }
        Ok(tell)
    }

    /// Gives a sibling another name, as compose does when it replaces one.
    async fn rename(
        &self,
        call: &Call,
        id: &str,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        let bounds = &self.shared.bounds;
        let drone = bounds.identity.name.as_str();
        let to = call.query.get("name").unwrap_or_default();
        let is_drone = self.shared.state().own.name(id) == Some(drone);
        if is_drone || to == drone || !bounds.names(to) {
            return Err(Stop::Refused(format!("the name {to:.80?}")));
        }
        let answer = self.ask(call, request, empty()).await?;
        if answer.status().is_success() {
            self.shared.state().own.rename(id, to);
        }
        Ok(plain(answer))
    }

    async fn create(&mut self, call: Call, request: Request<Incoming>) -> Judged<Response<Body>> {
        let bounds = &self.shared.bounds;
        let name = call.query.get("name").unwrap_or_default().to_owned();
        if !bounds.names(&name) {
            return Err(Stop::Refused(format!("the name {name:.80?}")));
        }
        self.about = Some(name.clone());
        has_known_platform(&call)?;
        let Some(_reserved) = self.shared.reserve() else {
            return Err(Stop::Refused(format!(
                "one container too many: a drone's project has at most {MAX_SERVICES}"
            )));
        };
        let (request, body) = taken(request).await?;
        let mut body = Rewrite::read(&body)?;
        let image: String = body.take("Image")?.unwrap_or_default();
        let image = self.image(&call, &image).await?;
        let creation = {
            let state = self.shared.state();
            let asked = Asked {
                name: &name,
                image: &image,
                own: &state.own,
            };
            judge::creation(body, &asked, bounds)?
        };
        for network in &creation.networks {
            if self.network(&call, network).await?.is_none() {
                return Err(Stop::Refused(format!(
                    "a place in the network {network:.80?}"
                )));
            }
        }
        for volume in &creation.volumes {
            if judge::is_nameless(volume) && !self.has_volume(&call, volume).await? {
                return Err(Stop::Refused(format!(
                    "the volume {volume}, which is not its own"
                )));
            }
            let ask = call.instead(Ask::Volume(volume.clone()));
            let shown: Option<Volume> = self.shared.docker.show(&ask).await?;
            if shown.is_some_and(|volume| !judge::is_plain(&volume)) {
                let what = format!("the volume {volume:.80?}, which is a part of the host");
                return Err(Stop::Refused(what));
            }
        }
        self.make_way().await?;
        let timed = self.timed(&name);
        let answer = self
            .ask(&call, request, full(creation.body.to_string()))
            .await?;
        let (answer, id) = created(answer).await?;
        drop(timed);
        let Some(id) = id else { return Ok(answer) };
        let ask = call.instead(Ask::Container(id.clone(), OfContainer::Inspect));
        let shown: Option<ContainerInspectResponse> = self.shared.docker.show(&ask).await?;
        let surprise = match &shown {
            Some(shown) => judge::surprise(shown, &creation.body, bounds),
            None => return Err(no_container(&id)),
        };
        if let Some(what) = surprise {
            let ask = call.instead(Ask::Container(id, OfContainer::Remove));
            let head = HeaderMap::new();
            let _ = self
                .shared
                .docker
                .ask(&Method::DELETE, &ask, &head, empty())
                .await;
            return Err(Stop::Refused(what));
        }
        self.shared.state().own.add(&id, &name);
        Ok(answer)
    }

    /// Records how long the creation of this container takes, until the returned step is dropped.
    fn timed(&self, name: &str) -> Option<Step> {
        let timeline = self.shared.state().timeline.clone()?;
        let is_drones = name == self.shared.bounds.identity.name.as_str();
        Some(timeline.step(if is_drones {
            "create".to_owned()
        } else {
            format!("create {name}")
        }))
    }

    /// Whether a volume without a name is one of the drone's own containers'.
    async fn has_volume(&self, call: &Call, volume: &str) -> Judged<bool> {
        let ids = self.shared.state().own.ids();
        for id in ids {
            let ask = call.instead(Ask::Container(id, OfContainer::Inspect));
            let shown: Option<ContainerInspectResponse> = self.shared.docker.show(&ask).await?;
            let mut mounts = shown
                .into_iter()
                .flat_map(|shown| shown.mounts.unwrap_or_default());
            if mounts.any(|mount| mount.name.as_deref() == Some(volume)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Creates a network with addresses of the pool. No other network gets any until Docker has created it.
    async fn create_network(
        &self,
        call: &Call,
        head: &HeaderMap,
        body: Value,
    ) -> Judged<Response<Body>> {
        let mut choice = match self.shared.addresses.choice().await {
            Ok(choice) => choice,
            Err(error) => return Err(self.end(error).await),
        };
        let all = call.instead(Ask::Networks);
        loop {
            let there: Option<Vec<Value>> = self.shared.docker.show(&all).await?;
            let there = there.unwrap_or_default();
            let bounds = &self.shared.bounds;
            let own = there
                .iter()
                .filter(|it| answers::is_own_network(it, bounds));
            if !self.shared.trusted && own.count() >= MAX_NETWORKS {
                return Err(too_many_networks());
            }
            let there: Vec<Network> = there
                .into_iter()
                .filter_map(|network| serde_json::from_value(network).ok())
                .collect();
            let block = match choice.next(&there) {
                Ok(block) => block,
                Err(error) => {
                    drop(choice);
                    return Err(self.end(error).await);
                }
            };
            let asked = full(judge::placed(body.clone(), block).to_string());
            let answer = self.shared.docker.ask(&Method::POST, call, head, asked);
            let (answer, said) = collected(answer.await?).await?;
            if answer.status().is_success() || !is_overlap(&String::from_utf8_lossy(&said)) {
                return Ok(answer);
            }
        }
    }

    /// Waits until the spawn has removed what the drone's new containers replace, if there is anything: once
    /// for each door.
    async fn make_way(&self) -> Judged<()> {
        let _turn = self.shared.replacing.lock().await;
        if !self.shared.replaces.load(Ordering::Acquire) {
            return Ok(());
        }
        let (made, making) = oneshot::channel();
        let told = self.shared.events.send(Event::Replacing(made)).await;
        if told.is_err() || making.await.is_err() {
            return Err(Stop::Away("the spawn has ended".to_owned()));
        }
        self.shared.replaces.store(false, Ordering::Release);
        Ok(())
    }

    /// Ends the spawn with this error. The client gets no answer, because what it would say could only hide the
    /// reason.
    async fn end(&self, error: Error) -> Stop {
        if self.shared.events.send(Event::Refused(error)).await.is_ok() {
            std::future::pending::<()>().await;
        }
        Stop::Away("the spawn has ended".to_owned())
    }

    async fn of_network(
        &self,
        call: &Call,
        reference: &str,
        of: OfNetwork,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        let Some(id) = self.network(call, reference).await? else {
            return Err(Stop::NotFound(format!("network: {reference:.80}")));
        };
        let mut call = call.clone();
        call.ask = Ask::Network(id, of);
        if of == OfNetwork::Remove {
            if !self.shared.bounds.compose {
                return Err(Stop::NotListed("the removal of a network".to_owned()));
            }
            self.make_way().await?;
            return self.hand_on(&call, request, empty()).await;
        }
        if of == OfNetwork::Inspect {
            let cut = |shown: &mut Value, shared: &Shared| {
                answers::one_network(shown, &shared.state().own);
            };
            return self.cut(&call, request, cut).await;
        }
        let (request, body) = taken(request).await?;
        let body = judge::connection(&body, &self.shared.state().own)?;
        self.hand_on(&call, request, full(body.to_string())).await
    }

    /// Gives an image another name, of the form that the devcontainer CLI uses for what it builds; it contains
    /// a text that no repository knows.
    async fn tag(
        &self,
        call: &Call,
        name: &str,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        self.image(call, name).await?;
        let to = call.query.get("repo").unwrap_or_default();
        if !images::is_own_tag(&self.shared.bounds.identity.name, to) {
            return Err(Stop::Refused(format!("its image called {to:.200?}")));
        }
        self.hand_on(call, request, empty()).await
    }

    /// The whole id of one of the drone's containers.
    fn container(&self, reference: &str) -> Judged<String> {
        let state = self.shared.state();
        let id = state.own.container(reference).map(str::to_owned);
        id.ok_or_else(|| no_container(reference))
    }

    /// An image that exists and that the drone may use.
    async fn image(&self, call: &Call, name: &str) -> Judged<ImageInspect> {
        let image = self.shown_image(call, name).await?;
        let image = image.ok_or_else(|| no_image(name))?;
        let bounds = &self.shared.bounds;
        if judge::is_usable(&image, name, &bounds.identity, &bounds.registries) {
            Ok(image)
        } else {
            Err(no_image(name))
        }
    }

    /// Pulls an image, with this server's login where the configuration has one for the repository.
    async fn pull(
        &self,
        call: &Call,
        image: &str,
        request: Request<Incoming>,
    ) -> Judged<Response<Body>> {
        let bounds = &self.shared.bounds;
        if let Some(error) = judge::not_for(&bounds.identity.repo, image, &bounds.registries) {
            return Err(self.end(error).await);
        }
        let login = match Login::of(&bounds.registries, image) {
            Ok(login) => login,
            Err(error) => return Err(self.end(error).await),
        };
        let (method, head) = (request.method(), request.headers());
        let docker = &self.shared.docker;
        let pulling = docker.ask_as(login.as_ref(), method, call, head, empty());
        Ok(plain(pulling.await?))
    }

    async fn shown_image(&self, call: &Call, name: &str) -> Judged<Option<ImageInspect>> {
        if !policy::is_image(name) {
            return Ok(None);
        }
        let ask = call.instead(Ask::Image(name.to_owned()));
        self.shared.docker.show(&ask).await
    }

    /// The id of a network that the drone may be in.
    async fn network(&self, call: &Call, reference: &str) -> Judged<Option<String>> {
        if !policy::is_name(reference) {
            return Ok(None);
        }
        let ask = call.instead(Ask::Network(reference.to_owned(), OfNetwork::Inspect));
        let shown: Option<NetworkInspect> = self.shared.docker.show(&ask).await?;
        let own = shown.filter(|network| judge::is_own_network(network, &self.shared.bounds));
        Ok(own.and_then(|network| network.id))
    }

    /// Passes on a request whose body is not judged, and the connection if that is upgraded.
    async fn pass(&self, call: &Call, request: Request<Incoming>) -> Judged<Response<Body>> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        self.hand_on(call, request, passing(body)).await
    }

    async fn hand_on<T>(
        &self,
        call: &Call,
        mut request: Request<T>,
        body: Body,
    ) -> Judged<Response<Body>> {
        let upgrade = becomes_another(&mut request);
        let answer = self.ask(call, request, body).await?;
        Ok(self.joined(answer, upgrade))
    }

    async fn ask<T>(
        &self,
        call: &Call,
        request: Request<T>,
        body: Body,
    ) -> Judged<Response<Incoming>> {
        let docker = &self.shared.docker;
        docker
            .ask(request.method(), call, request.headers(), body)
            .await
    }

    /// Passes on Docker's answer. If it turns the connection into a stream of bytes, both ends are joined.
    fn joined(
        &self,
        mut answer: Response<Incoming>,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Response<Body> {
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return plain(answer);
        }
        let docker = hyper::upgrade::on(&mut answer);
        if let Some(client) = upgrade {
            self.shared.go_on(async move {
                let (Ok(client), Ok(docker)) = tokio::join!(client, docker) else {
                    return;
                };
                let (mut client, mut docker) = (TokioIo::new(client), TokioIo::new(docker));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut docker).await;
            });
        }
        let mut switched = Response::new(empty());
        *switched.status_mut() = answer.status();
        for name in [CONNECTION, UPGRADE, CONTENT_TYPE] {
            if let Some(value) = answer.headers().get(&name) {
                switched.headers_mut().insert(name, value.clone());
            }
        }
        switched
    }

    /// Passes on a request, and cuts the answer to what is the drone's own.
    async fn cut(
        &self,
        call: &Call,
        request: Request<Incoming>,
        cut: impl Fn(&mut Value, &Shared),
    ) -> Judged<Response<Body>> {
        let answer = self.ask(call, request, empty()).await?;
        if !answer.status().is_success() {
            return Ok(plain(answer));
        }
        let bytes = whole(answer).await?;
        let mut shown: Value =
            serde_json::from_slice(&bytes).map_err(|error| Stop::Away(error.to_string()))?;
        cut(&mut shown, &self.shared);
        Ok(told(StatusCode::OK, &shown))
    }
}

/// Refuses a request for a platform that is not known.
fn has_known_platform(call: &Call) -> Judged<()> {
    match call.query.get("platform") {
        Some(platform) if !policy::is_platform(platform) => {
            Err(Stop::Refused(format!("the platform {platform:.80?}")))
        }
        _ => Ok(()),
    }
}

/// The name of the image that is to be pulled.
fn pulled(call: &Call) -> Judged<String> {
    let image = call.query.get("fromImage").unwrap_or_default();
    has_known_platform(call)?;
    Ok(match call.query.get("tag") {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) => format!("{image}:{tag}"),
        None if image
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@'])) =>
        {
            image.to_owned()
        }
        // Docker would pull all that there are.
        None => return Err(Stop::NotListed("an image without a tag".to_owned())),
    })
}

fn too_many_networks() -> Stop {
    Stop::Refused(format!("more than {MAX_NETWORKS} networks"))
}

fn no_image(name: &str) -> Stop {
    Stop::NotFound(format!("image: {name:.200}"))
}

fn no_container(reference: &str) -> Stop {
    Stop::NotFound(format!("container: {reference:.80}"))
}

/// Docker's answer to a request for a container, and the container's id where there is one now.
async fn created(answer: Response<Incoming>) -> Judged<(Response<Body>, Option<String>)> {
    let is_created = answer.status() == StatusCode::CREATED;
    let (answer, body) = collected(answer).await?;
    let id = created_id(&body).filter(|_| is_created);
    if is_created && id.is_none() {
        let what = "it has created a container without an id".to_owned();
        return Err(Stop::Away(what));
    }
    Ok((answer, id))
}

/// The `Id` of what Docker says it has created.
fn created_id(body: &Bytes) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["Id"].as_str().map(str::to_owned)
}
