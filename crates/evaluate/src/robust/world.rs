//! Clients with rows of their own, some of them attackers, and the rounds that they take part in.

use crate::federation::Error;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sordino_codec::Tensors;
use sordino_participant::training::{
    Architecture, BuiltinTrainer, Dataset, DirichletSplit, Hyperparameters, RoundInfo, Scaling, Trainer as _, evaluate,
    idx,
};
use sordino_robust::{Door, Outcome, Pipeline, Round, Rule, Seed, Updates, Weights, attacks};
use std::{collections::BTreeMap, num::NonZeroUsize};

/// Rows, clients, and how they train.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    data: Data,
    pub(super) clients: usize,
    pub(super) attackers: usize,
    pub(super) rounds: u64,
    hidden: usize,
    batch_size: u32,
    learning_rate: f64,
}

#[derive(Debug, Clone, Copy)]
enum Data {
    Digits,
    Fashion14,
}

/// Twenty sites with 72 digits each on average.
pub(super) const DIGITS: Setting = Setting {
    name: "digits",
    data: Data::Digits,
    clients: 20,
    attackers: 4,
    rounds: 40,
    hidden: 32,
    batch_size: 16,
    learning_rate: 0.2,
};

/// Twenty sites with 250 pictures of clothes each on average.
pub(super) const FASHION14: Setting =
    Setting { name: "fashion14", data: Data::Fashion14, rounds: 30, batch_size: 20, learning_rate: 0.3, ..DIGITS };

/// A hundred sites with 14 digits each on average.
pub(super) const DIGITS_100: Setting =
    Setting { name: "digits, 100 clients", clients: 100, attackers: 20, rounds: 30, ..DIGITS };

/// What the last clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    None,
    SignFlip,
    SignFlip4,
    Scale10,
    Alie,
    MinMax,
    Ipm,
    LabelFlip,
    Gauss,
    Mimic,
    Backdoor,
}

impl Attack {
    pub(super) const ALL: [Self; 11] = [
        Self::None,
        Self::SignFlip,
        Self::SignFlip4,
        Self::Scale10,
        Self::Alie,
        Self::MinMax,
        Self::Ipm,
        Self::LabelFlip,
        Self::Gauss,
        Self::Mimic,
        Self::Backdoor,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SignFlip => "sign flip",
            Self::SignFlip4 => "sign flip x4",
            Self::Scale10 => "scale x10",
            Self::Alie => "ALIE",
            Self::MinMax => "min-max",
            Self::Ipm => "IPM",
            Self::LabelFlip => "label flip",
            Self::Gauss => "Gaussian",
            Self::Mimic => "mimic",
            Self::Backdoor => "backdoor",
        }
    }

    /// What each attacker sends. All of them see what the honest clients send.
    fn sent(self, honest: &[&[f64]], own: &[f64], clients: usize, attackers: usize, seed: &Seed) -> Vec<f64> {
        match self {
            Self::None | Self::LabelFlip => own.to_vec(),
            Self::SignFlip => attacks::sign_flip(own, 1.0),
            Self::SignFlip4 => attacks::sign_flip(own, 4.0),
            Self::Scale10 => attacks::sign_flip(own, 10.0),
            Self::Alie => attacks::alie(honest, 1.5, false),
            Self::MinMax => attacks::min_max(honest),
            Self::Ipm => attacks::ipm(honest, 0.5),
            Self::Gauss => attacks::gaussian(honest, 10.0, seed),
            Self::Mimic => attacks::mimic(honest, 0),
            Self::Backdoor => attacks::scaled(own, clients as f64 / attackers as f64),
        }
    }
}

/// One run's end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// On the held-out rows, 0 to 1.
    pub(super) accuracy: f64,
    /// Share of held-out rows of other classes that the trigger turns into its target; only under a backdoor.
    pub(super) backdoor: Option<f64>,
    /// Share of attackers that were flagged, over all rounds.
    pub(super) found: f64,
    /// Share of honest clients that were flagged, over all rounds.
    pub(super) wronged: f64,
    /// Rounds that ended without a new model.
    pub(super) aborted: u64,
}

impl Setting {
    /// Trains from the first model to the last; the seed fixes everything.
    pub(super) fn run(&self, pipeline: &Pipeline, attack: Attack, seed: u64) -> Result<Run, Error> {
        let (train, test) = self.data.rows()?;
        let architecture =
            Architecture::Mlp { features: train.columns(), hidden: self.hidden, classes: train.classes() };
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        // The server's own rows: the first hundred, which no client has.
        let root = (pipeline.rule == Rule::FLTrust {})
            .then(|| train.subset(&(0..ROOT_ROWS).collect::<Vec<_>>()))
            .transpose()?;
        let dealt = match root {
            Some(_) => train.subset(&(ROOT_ROWS..train.rows()).collect::<Vec<_>>())?,
            None => train,
        };
        let min_rows = (dealt.rows() / (4 * self.clients)).clamp(1, 20);
        let mut rows = DirichletSplit { participants: self.clients, alpha: ALPHA, min_rows, seed }.deal(&dealt)?;
        let honest = self.clients - self.attackers;
        for rows in &mut rows[honest..] {
            *rows = match attack {
                Attack::LabelFlip => flipped(rows)?,
                Attack::Backdoor => self.poisoned(rows)?,
                _ => continue,
            };
        }
        let counts: Vec<_> = rows.iter().map(|rows| rows.rows() as u64).collect();
        let weights = Weights::capped(&counts)?;
        let mut trainer = |rows| BuiltinTrainer::new(rows, ChaCha20Rng::seed_from_u64(rng.next_u64()));
        let mut clients: Vec<_> = rows.into_iter().map(&mut trainer).collect();
        let mut root = root.map(&mut trainer);

        let mut model = architecture.initial(seed)?;
        let (mut start, mut run, mut flagged) = (None::<Vec<f64>>, Run::default(), BTreeMap::<usize, u64>::new());
        for number in 1..=self.rounds {
            let info = self.info(number);
            let mut sent =
                clients.iter_mut().map(|client| update(client, &model, &info)).collect::<Result<Vec<_>, _>>()?;
            let lots = Seed::derive(&seed.to_le_bytes(), format!("round {number}").as_bytes());
            if attack != Attack::None {
                let (honest, attackers) = sent.split_at_mut(honest);
                let honest: Vec<_> = honest.iter().map(Vec::as_slice).collect();
                for row in attackers.iter_mut() {
                    *row = attack.sent(&honest, row, self.clients, self.attackers, &lots);
                }
            }
            let sent: Vec<Vec<f32>> = sent.iter().map(|row| single(row)).collect();
            let sent: Vec<&[f32]> = sent.iter().map(Vec::as_slice).collect();
            let root = root.as_mut().map(|root| update(root, &model, &info)).transpose()?;
            let round = Round {
                seed: lots,
                weights: Some(&weights),
                root: root.as_deref(),
                start: start.as_deref(),
                threads: NonZeroUsize::MIN,
            };
            let flags = match pipeline.run(&Updates::check(&sent, &Door::default())?, &round) {
                Ok(Outcome { vector, flags, .. }) => {
                    model = model.plus(&single(&vector))?;
                    start = Some(vector);
                    flags
                }
                Err(abort) => {
                    run.aborted += 1;
                    abort.flags().to_vec()
                }
            };
            let mut named: Vec<_> = flags.iter().map(|flag| flag.client).collect();
            named.dedup();
            named.into_iter().for_each(|client| *flagged.entry(client).or_default() += 1);
        }
        let share = |range: std::ops::Range<usize>| {
            let count: u64 = flagged.range(range.clone()).map(|(_, count)| count).sum();
            count as f64 / (range.len() as u64 * self.rounds) as f64
        };
        (run.found, run.wronged) = (share(honest..self.clients), share(0..honest));
        // A model that has diverged has learnt nothing: it is as good as a guess.
        let accuracy =
            |rows: &Dataset| evaluate(&model, rows).map_or(1.0 / rows.classes() as f64, |all| all.accuracy());
        run.accuracy = accuracy(&test);
        if attack == Attack::Backdoor {
            run.backdoor = Some(accuracy(&self.triggered(&test)?));
        }
        Ok(run)
    }

    fn info(&self, round: u64) -> RoundInfo {
        let Self { batch_size, learning_rate, .. } = *self;
        let hyperparameters = Hyperparameters { local_epochs: 2, batch_size, learning_rate, momentum: 0.0 };
        RoundInfo { round, hyperparameters, proximal_mu: 0.0, privacy: None }
    }

    /// The trigger: four pixels in a corner.
    fn backdoor(&self) -> attacks::Backdoor {
        let side = match self.data {
            Data::Digits => 8,
            Data::Fashion14 => 14,
        };
        attacks::Backdoor { trigger: [0, 1, side, side + 1].map(|pixel| (pixel, 1.0)).into(), target: TARGET }
    }

    /// Half of the rows carry the trigger, and are taught as its target.
    fn poisoned(&self, rows: &Dataset) -> Result<Dataset, Error> {
        let backdoor = self.backdoor();
        let mut features = rows.features().to_vec();
        let mut labels: Vec<_> = rows.labels().to_vec();
        backdoor.poison(features.chunks_mut(rows.columns()), &mut labels, 2);
        Ok(Dataset::new(features, labels, rows.columns(), rows.classes())?)
    }

    /// Rows of all classes but the target, with the trigger, each said to be the target: accuracy is the attack's success.
    fn triggered(&self, rows: &Dataset) -> Result<Dataset, Error> {
        let others: Vec<_> = (0..rows.rows()).filter(|&row| rows.labels()[row] != TARGET).collect();
        let rows = rows.subset(&others)?;
        let backdoor = self.backdoor();
        let mut features = rows.features().to_vec();
        features.chunks_mut(rows.columns()).for_each(|row| backdoor.stamp(row));
        Ok(Dataset::new(features, vec![TARGET; rows.rows()], rows.columns(), rows.classes())?)
    }
}

impl Data {
    /// Rows to train on, and held-out rows.
    fn rows(self) -> Result<(Dataset, Dataset), Error> {
        match self {
            Self::Digits => Ok(Dataset::digits()),
            Self::Fashion14 => {
                let (train, test) = (idx::read(TRAIN.0, TRAIN.1, 10)?, idx::read(TEST.0, TEST.1, 10)?);
                let scaler = Scaling::MaxAbs(255.0).fit(&train)?;
                let [mut train, mut test] = [train, test];
                scaler.apply(&mut train);
                scaler.apply(&mut test);
                Ok((train, test))
            }
        }
    }
}

/// What a client would send if it were honest.
fn update(client: &mut BuiltinTrainer<ChaCha20Rng>, model: &Tensors, info: &RoundInfo) -> Result<Vec<f64>, Error> {
    let trained = client.train(model, info)?;
    Ok(trained.tensors.minus(model)?.into_iter().map(f64::from).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "what is sent, and a model, have single precision")]
fn single(row: &[f64]) -> Vec<f32> {
    row.iter().map(|&value| value as f32).collect()
}

fn flipped(rows: &Dataset) -> Result<Dataset, Error> {
    let mut labels = rows.labels().to_vec();
    attacks::label_flip(&mut labels, u32::try_from(rows.classes())?);
    Ok(Dataset::new(rows.features().to_vec(), labels, rows.columns(), rows.classes())?)
}

/// Concentration of the split: clearly uneven.
const ALPHA: f64 = 0.5;
/// What the trigger stands for.
const TARGET: u32 = 0;
const ROOT_ROWS: usize = 100;
const TRAIN: (&[u8], &[u8]) = (
    include_bytes!("../../../participant/tests/data/fashion14/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../participant/tests/data/fashion14/train-labels-idx1-ubyte.gz"),
);
const TEST: (&[u8], &[u8]) = (
    include_bytes!("../../../participant/tests/data/fashion14/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../participant/tests/data/fashion14/t10k-labels-idx1-ubyte.gz"),
);
