//! The search for devices: claim by claim, request by request, device by device, with backtracking. The first solution is taken, so that
//! drivers can say by names which devices go first.
//!
//! Within a request only combinations are tried, never the same devices in another order. The search is over when its bounds say so.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{Device, ResourceSlice},
};
use troupe_api::device_selectors::{DeviceSelector, Judged};

use super::{
    Allocator, Amounts, Bounds, Failure, MOST_DEVICES, Selected, capacity,
    constraints::Counted,
    counters::Counters,
    outcome::{Chosen, Solution},
    pools::{Pool, PoolState, devices, means},
    selectors::{Program, Selector},
    wanted::{Mode, Wanted},
};
use crate::{
    devices::{DeviceId, is_harmful, key_of, tolerates},
    scheduler::devices::wanted::WantedClaim,
};

/// Requests and devices of all claims together: each may be one call within another.
const MOST_DEPTH: usize = 2_000;

/// Where a device stands: pool, slice and place in it.
type At = (usize, usize, usize);

/// What is to be chosen next.
#[derive(Clone, Copy, Debug)]
struct Place {
    claim: usize,
    request: usize,
    alternative: usize,
    /// How many devices the request has already.
    device: usize,
}

/// Why the search cannot go on here.
enum Stop {
    /// The claim would get more devices than a claim may have; fewer of an earlier alternative may help.
    TooMany,
    /// Its bounds ended the search.
    Over,
    Error(String),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::TooMany => Failure::Nothing,
            Stop::Over => Failure::Unfinished,
            Stop::Error(why) => Failure::Error(why),
        }
    }
}

/// How many devices an alternative gets; which, if all are wanted.
struct Number {
    count: usize,
    all: Option<Vec<At>>,
}

/// See the module.
pub struct Search<'s> {
    allocator: &'s Allocator,
    node: &'s Node,
    pools: &'s [Pool],
    /// By claim, request and alternative.
    numbers: Vec<Vec<Vec<Number>>>,
    chosen: Vec<Vec<Chosen<'s>>>,
    /// The alternatives that were taken, by claim and request.
    alternatives: Vec<Vec<usize>>,
    counted: Vec<Vec<Counted<'s>>>,
    /// Which claims a device was chosen for.
    choosing: HashMap<At, Vec<usize>>,
    /// What was chosen of devices that are shared.
    sharing: HashMap<At, Vec<Amounts>>,
    counters: HashMap<usize, Counters>,
    /// What others have, asked once.
    in_use: HashMap<At, (bool, Option<Amounts>)>,
    bounds: &'s Bounds<'s>,
    steps: usize,
}

/// What was done to choose a device.
struct Taken {
    at: At,
    claim: usize,
    counts: Vec<bool>,
    counters: bool,
    shares: bool,
}

impl<'s> Search<'s> {
    /// Finds out how many devices each request gets.
    ///
    /// # Errors
    /// Why there is no solution at all.
    pub fn new(allocator: &'s Allocator, node: &'s Node, pools: &'s [Pool], bounds: &'s Bounds<'s>) -> Result<Self, Failure> {
        let claims = &allocator.claims;
        let mut search = Search {
            allocator,
            node,
            pools,
            numbers: Vec::new(),
            chosen: claims.iter().map(|_| Vec::new()).collect(),
            alternatives: claims.iter().map(|claim| vec![0; claim.requests.len()]).collect(),
            counted: claims.iter().map(|claim| claim.constraints.iter().map(|_| Counted::default()).collect()).collect(),
            choosing: HashMap::new(),
            sharing: HashMap::new(),
            counters: HashMap::new(),
            in_use: HashMap::new(),
            bounds,
            steps: 0,
        };
        search.numbers = claims.iter().map(|claim| search.numbers_of(claim)).collect::<Result<_, Stop>>()?;
        let depth: usize = search.numbers.iter().flatten().flatten().map(|number| 2 + number.count).sum();
        if depth > MOST_DEPTH {
            return Err(Failure::Error(format!("the pod's claims ask for too many devices: {depth} steps, limit is {MOST_DEPTH}")));
        }
        Ok(search)
    }

    fn numbers_of(&mut self, claim: &'s WantedClaim) -> Result<Vec<Vec<Number>>, Stop> {
        let mut numbers = Vec::new();
        let mut least = 0;
        for request in &claim.requests {
            let of_request = request.alternatives.iter().map(|wanted| self.number_of(claim, wanted)).collect::<Result<Vec<_>, _>>()?;
            least += of_request.iter().map(|number| number.count).min().unwrap_or(0);
            numbers.push(of_request);
        }
        if least > MOST_DEVICES {
            let key = key_of(&claim.claim.metadata);
            let why = format!("claim {key}: number of requested devices {least} exceeds the claim limit of {MOST_DEVICES}");
            return Err(Stop::Error(why));
        }
        Ok(numbers)
    }

    fn number_of(&mut self, claim: &WantedClaim, wanted: &Wanted) -> Result<Number, Stop> {
        if let Mode::Count(count) = wanted.mode {
            return Ok(Number { count, all: None });
        }
        let all_of = |state: &str, pool: &Pool| {
            let (claim, request) = (key_of(&claim.claim.metadata), wanted.full_name());
            format!("claim {claim}, request {request}: asks for all devices, but resource pool {}/{} is currently {state}", pool.driver, pool.name)
        };
        let mut all = Vec::new();
        for (number, pool) in self.pools.iter().enumerate() {
            let slices = match &pool.state {
                PoolState::Usable { slices, .. } => slices,
                PoolState::Incomplete => return Err(Stop::Error(all_of("being updated", pool))),
                PoolState::Invalid => return Err(Stop::Error(all_of("invalid", pool))),
            };
            for (slice, of) in slices.iter().enumerate() {
                for place in 0..devices(of).len() {
                    let at = (number, slice, place);
                    self.step()?;
                    if self.is_selected(at, wanted)? && self.capacity_fits(at, wanted) {
                        all.push(at);
                    }
                }
            }
        }
        Ok(Number { count: all.len(), all: Some(all) })
    }

    /// # Errors
    /// There is no solution, or something is wrong.
    pub fn run(mut self) -> Result<Solution<'s>, Failure> {
        let first = Place { claim: 0, request: 0, alternative: 0, device: 0 };
        match self.choose(first, false, (0, 0, 0)) {
            Ok(true) => Ok(Solution { claims: &self.allocator.claims, chosen: self.chosen, alternatives: self.alternatives, node: self.node }),
            Err(stop @ (Stop::Error(_) | Stop::Over)) => Err(stop.into()),
            Ok(false) | Err(Stop::TooMany) if self.pools.iter().any(|pool| matches!(pool.state, PoolState::Invalid)) => {
                Err(Failure::OnNode("invalid resource pools were encountered".to_owned()))
            }
            Ok(false) | Err(Stop::TooMany) => Err(Failure::Nothing),
        }
    }

    /// Chooses all devices from a place on. Within an alternative that was decided on, `decided` is set; the search within a request goes on
    /// from `start`.
    fn choose(&mut self, place: Place, decided: bool, start: At) -> Result<bool, Stop> {
        self.step()?;
        let allocator = self.allocator;
        let Some(claim) = allocator.claims.get(place.claim) else { return Ok(true) };
        let Some(request) = claim.requests.get(place.request) else {
            let next = Place { claim: place.claim + 1, request: 0, alternative: 0, device: 0 };
            // Other alternatives of this claim may leave the later ones what they need.
            return match self.choose(next, false, (0, 0, 0)) {
                Err(Stop::TooMany) => Ok(false),
                other => other,
            };
        };
        if request.is_prioritized && !decided {
            return self.choose_alternative(place, request.alternatives.len());
        }
        let wanted = &request.alternatives[place.alternative];
        let number = &self.numbers[place.claim][place.request][place.alternative];
        let count = number.count;
        if number.all.is_some() && count == 0 {
            return Ok(false);
        }
        if place.device >= count {
            return self.choose(Place { request: place.request + 1, alternative: 0, device: 0, ..place }, false, (0, 0, 0));
        }
        if self.chosen[place.claim].len() + count - place.device > MOST_DEVICES {
            return Err(Stop::TooMany);
        }
        let next = Place { device: place.device + 1, ..place };
        if let Some(all) = &number.all {
            // All are needed, in whatever order.
            let at = all[place.device];
            let Some(taken) = self.take(place, at, wanted, true)? else { return Ok(false) };
            return self.go_on(taken, next, decided, (0, 0, 0));
        }
        self.choose_device(place, wanted, decided, start)
    }

    /// One more device or place is looked at.
    fn step(&mut self) -> Result<(), Stop> {
        self.work(1)
    }

    fn work(&mut self, steps: usize) -> Result<(), Stop> {
        self.steps += steps;
        if (self.bounds.is_over)(self.steps) { Err(Stop::Over) } else { Ok(()) }
    }

    fn choose_alternative(&mut self, place: Place, alternatives: usize) -> Result<bool, Stop> {
        let mut all_too_many = true;
        for alternative in 0..alternatives {
            match self.choose(Place { alternative, device: 0, ..place }, true, (0, 0, 0)) {
                Err(Stop::TooMany) => continue,
                Err(stop) => return Err(stop),
                Ok(true) => {
                    self.alternatives[place.claim][place.request] = alternative;
                    return Ok(true);
                }
                Ok(false) => all_too_many = false,
            }
        }
        if all_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    fn choose_device(&mut self, place: Place, wanted: &'s Wanted, decided: bool, start: At) -> Result<bool, Stop> {
        let pools = self.pools;
        for (number, pool) in pools.iter().enumerate().skip(start.0) {
            let PoolState::Usable { slices, .. } = &pool.state else { continue };
            let first_slice = if number == start.0 { start.1 } else { 0 };
            for (slice, of) in slices.iter().enumerate().skip(first_slice) {
                let first = if number == start.0 && slice == start.1 { start.2 } else { 0 };
                for device in first..devices(of).len() {
                    let at = (number, slice, device);
                    if self.bounds.among.is_some_and(|among| !among.contains(&devices(of)[device].name)) {
                        continue;
                    }
                    self.step()?;
                    if self.is_barred(place, at, wanted) || !self.is_selected(at, wanted)? {
                        continue;
                    }
                    let Some(taken) = self.take(place, at, wanted, false)? else { continue };
                    let next = Place { device: place.device + 1, ..place };
                    if self.go_on(taken, next, decided, (number, slice, device + 1))? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Chooses the rest; gives the device back if there is no way.
    fn go_on(&mut self, taken: Taken, next: Place, decided: bool, start: At) -> Result<bool, Stop> {
        let done = self.choose(next, decided, start);
        if !matches!(done, Ok(true)) {
            self.give_back(taken);
        }
        done
    }

    /// The device at a place, in the pool of which driver.
    fn device(&self, (pool, slice, device): At) -> (&'s Pool, &'s Arc<ResourceSlice>, &'s Device) {
        let pool = &self.pools[pool];
        match &pool.state {
            PoolState::Usable { slices, .. } => (pool, &slices[slice], &devices(&slices[slice])[device]),
            _ => unreachable!("devices are looked for in usable pools only"),
        }
    }

    fn id(&self, at: At) -> DeviceId {
        let (pool, _, device) = self.device(at);
        DeviceId { driver: pool.driver.to_string(), pool: pool.name.to_string(), device: device.name.clone() }
    }

    fn others(&mut self, at: At) -> &(bool, Option<Amounts>) {
        let (id, in_use) = (self.id(at), &*self.allocator.in_use);
        self.in_use.entry(at).or_insert_with(|| (in_use.is_taken(&id), in_use.shares(&id)))
    }

    /// Whether somebody else has the device; whoever administers it minds only the own claim.
    fn is_barred(&mut self, place: Place, at: At, wanted: &Wanted) -> bool {
        let choosing = self.choosing.get(&at).map(Vec::as_slice).unwrap_or_default();
        if wanted.is_administration() {
            return choosing.contains(&place.claim);
        }
        !choosing.is_empty() || self.others(at).0
    }

    fn is_selected(&mut self, at: At, wanted: &Wanted) -> Result<bool, Stop> {
        let (_, slice, device) = self.device(at);
        let key = (Arc::as_ptr(slice).addr(), at.2, wanted.id);
        let known = self.allocator.selected.borrow().get(&key).cloned();
        let selected = match known {
            Some(known) => known.map_err(Stop::Error)?,
            None => {
                let found = self.judged(at, wanted)?;
                self.allocator.selected.borrow_mut().insert(key, found.clone());
                found.map_err(Stop::Error)?
            }
        };
        let by_device = slice.spec.per_device_node_selection == Some(true);
        Ok(selected && (!by_device || means(self.node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())))
    }

    /// What the selectors of class and request say of a device.
    fn judged(&mut self, at: At, wanted: &Wanted) -> Result<Selected, Stop> {
        for (place, (named, selector)) in wanted.selectors.iter().enumerate() {
            let of = (wanted.id, place);
            let slice = self.device(at).1;
            let verdict = match self.allocator.programs.verdicts.get(slice, at.2, &selector.id()) {
                Some(known) => known,
                None => match self.program(of, selector)? {
                    Ok(program) => self.verdict(of, at, selector, &program)?,
                    Err(why) => return Ok(Err(format!("{named}: CEL compile error: {why}"))),
                },
            };
            match verdict {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(false)),
                Err(why) => return Ok(Err(format!("{named}: CEL runtime error: {why}"))),
            }
        }
        Ok(Ok(true))
    }

    /// What a selector is compiled to. That is kept though the search ends with it.
    fn program(&mut self, of: (usize, usize), selector: &Selector) -> Result<Program, Stop> {
        let made = self.allocator.programs.program(selector, self.bounds.most_cost);
        let cost = made.as_ref().map_or_else(|| selector.cost(), |(_, cost)| *cost);
        self.note_cost(of, cost);
        let (program, _) = made.ok_or(Stop::Over)?;
        self.work(usize::try_from(cost).unwrap_or(usize::MAX))?;
        Ok(program)
    }

    /// Asks one selector about a device.
    fn verdict(&mut self, of: (usize, usize), at: At, selector: &Selector, program: &DeviceSelector) -> Result<Selected, Stop> {
        let (pool, slice, device) = self.device(at);
        let Judged { verdict, cost } = program.matches_within(&pool.driver, device, self.bounds.most_cost);
        self.note_cost(of, cost);
        let verdict = verdict.ok_or(Stop::Over)?;
        self.allocator.programs.verdicts.set(slice, at.2, selector.id(), &verdict);
        self.work(usize::try_from(cost).unwrap_or(usize::MAX))?;
        Ok(verdict)
    }

    /// A selector of a request cost so much.
    fn note_cost(&self, of: (usize, usize), cost: u64) {
        if cost > 0 {
            let mut costs = self.allocator.costs.borrow_mut();
            let sum = costs.entry(of).or_default();
            *sum = sum.saturating_add(cost);
        }
    }

    fn capacity_fits(&mut self, at: At, wanted: &Wanted) -> bool {
        let device = self.device(at).2;
        let mut taken: Vec<Amounts> = self.others(at).1.clone().into_iter().collect();
        taken.extend(self.sharing.get(&at).into_iter().flatten().cloned());
        capacity::fits(device, &wanted.capacity, &taken.iter().collect::<Vec<_>>())
    }

    /// Takes a device if it can be had. One that `must` be had, and that a constraint forbids, is an error.
    fn take(&mut self, place: Place, at: At, wanted: &Wanted, must: bool) -> Result<Option<Taken>, Stop> {
        let (pool, slice, device) = self.device(at);
        let shares = capacity::is_shared(device);
        if self.is_barred(place, at, wanted) || !self.capacity_fits(at, wanted) || keeps_away(device, wanted) {
            return Ok(None);
        }
        let is_shared_already = shares && (self.others(at).1.is_some() || self.sharing.get(&at).is_some_and(|sharing| !sharing.is_empty()));
        let counters = device.consumes_counters.is_some() && !is_shared_already;
        if counters {
            let in_use = &*self.allocator.in_use;
            let left = self.counters.entry(at.0).or_insert_with(|| Counters::of(pool, in_use));
            if !left.take(device) {
                return Ok(None);
            }
        }
        let Some(counts) = self.count(place.claim, wanted, &pool.driver, device) else {
            self.give_counters_back(at, counters);
            if !must {
                return Ok(None);
            }
            let claim = key_of(&self.allocator.claims[place.claim].claim.metadata);
            let why = format!("cannot add device {} because a claim constraint would not be satisfied", self.id(at));
            return Err(Stop::Error(format!("claim {claim}, request {}: {why}", wanted.full_name())));
        };
        let consumed = shares.then(|| capacity::consumption(device, &wanted.capacity));
        match &consumed {
            Some(consumed) => self.sharing.entry(at).or_default().push(consumed.clone()),
            None => self.choosing.entry(at).or_default().push(place.claim),
        }
        let (request, alternative) = (place.request, place.alternative);
        let id = self.id(at);
        self.chosen[place.claim].push(Chosen { request, alternative, id, device, slice, consumed });
        Ok(Some(Taken { at, claim: place.claim, counts, counters, shares }))
    }

    /// Counts a device for the constraints of a claim; `None` if one forbids it.
    fn count(&mut self, claim: usize, wanted: &Wanted, driver: &str, device: &'s Device) -> Option<Vec<bool>> {
        let constraints = &self.allocator.claims[claim].constraints;
        let of = (wanted.request.as_str(), wanted.alternative.as_deref());
        let mut counts = Vec::with_capacity(constraints.len());
        for (constraint, counted) in constraints.iter().zip(&mut self.counted[claim]) {
            match constraint.add(counted, of, driver, device) {
                Some(counts_here) => counts.push(counts_here),
                None => {
                    self.uncount(claim, &counts);
                    return None;
                }
            }
        }
        Some(counts)
    }

    fn uncount(&mut self, claim: usize, counts: &[bool]) {
        self.counted[claim].iter_mut().zip(counts).filter(|(_, counts)| **counts).for_each(|(counted, _)| counted.remove_last());
    }

    fn give_counters_back(&mut self, at: At, counters: bool) {
        let device = self.device(at).2;
        if let Some(left) = self.counters.get_mut(&at.0).filter(|_| counters) {
            left.give_back(device);
        }
    }

    fn give_back(&mut self, taken: Taken) {
        let Taken { at, claim, counts, counters, shares } = taken;
        self.uncount(claim, &counts);
        self.give_counters_back(at, counters);
        if shares {
            self.sharing.entry(at).or_default().pop();
        } else {
            self.choosing.entry(at).or_default().pop();
        }
        self.chosen[claim].pop();
    }
}

/// Whether a taint of the device keeps the request away.
fn keeps_away(device: &Device, wanted: &Wanted) -> bool {
    let mut taints = device.taints.iter().flatten().filter(|taint| is_harmful(taint));
    taints.any(|taint| !wanted.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
