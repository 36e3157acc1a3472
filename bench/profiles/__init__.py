"""Where the time of one step goes, by stage and layer."""
