mod audit;
mod binding;
mod proof;
mod properties;
mod request;
mod rules;
mod token;
