mod files;
mod permissions;
