"""The commands of `pcc`, a module for each subject; what they do stands in steps and manage."""
