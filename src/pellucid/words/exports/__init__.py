"""Records of units in the forms that other tools read: Neuronpedia's and delphi's."""

from pellucid.words.exports.delphi import write_delphi
from pellucid.words.exports.neuronpedia import Source, write_neuronpedia

__all__ = ["Source", "write_delphi", "write_neuronpedia"]
