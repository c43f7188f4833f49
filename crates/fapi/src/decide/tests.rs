mod audit;
mod binding;
mod demands;
mod proof;
mod properties;
mod request;
mod rules;
mod token;
