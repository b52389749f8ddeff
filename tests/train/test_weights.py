"""The term against autograd; the proximal step against its definition."""

import torch
from train.planted_blocks import network

import pellucid
from pellucid.train.layers import layers_of
from pellucid.train.weights import add_cut_gradient, cut, interface, means, shrink, shrink_crossing


def parted():
    torch.manual_seed(0)
    model = network()
    layers = layers_of(pellucid.trace(model, (torch.zeros(2, 12),)), model)
    labels = torch.randint(-1, 2, (46,))
    return model, layers, labels, [layer.crossing(labels).float() for layer in layers]


def test_gradient_is_that_of_the_term_with_totals_held():
    _, layers, labels, masks = parted()
    with torch.no_grad():
        layers[0].weight[:3] = 0.0
    weights = [layer.weight.abs() for layer in layers]
    term = sum((w * mask).sum() / w.sum().detach() for w, mask in zip(weights, masks, strict=True))
    wanted = torch.autograd.grad(term / 3, [layer.weight for layer in layers])
    for layer in layers:
        layer.weight.grad = torch.ones_like(layer.weight)
    add_cut_gradient(layers, masks, means(layers), 5.0)
    for layer, slope in zip(layers, wanted, strict=True):
        torch.testing.assert_close(layer.weight.grad, 1 + 5 * slope)
    assert abs(interface(layers, labels) - float(term.detach()) / 3) < 1e-6


def test_term_leaves_no_graph_behind():
    _, layers, _, masks = parted()
    for layer in layers:
        layer.weight.grad = torch.zeros_like(layer.weight)
    add_cut_gradient(layers, masks, means(layers), 1.0)
    assert all(not layer.weight.grad.requires_grad for layer in layers)


def test_nobodys_weights_cross():
    _, layers, labels, masks = parted()
    nobody = labels[layers[1].rows] < 0
    assert nobody.any()
    assert masks[1][nobody].all()


def test_shrinking():
    _, layers, _, masks = parted()
    before = [layer.weight.detach().clone() for layer in layers]
    shrink([layer.weight for layer in layers], 0.05)
    for layer, weight in zip(layers, before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), torch.sign(weight) * (weight.abs() - 0.05).clamp_min(0))
    before = [layer.weight.detach().clone() for layer in layers]
    shrink_crossing(layers, masks, means(layers), 0.5)
    for layer, mask, weight in zip(layers, masks, before, strict=True):
        less = torch.sign(weight) * (weight.abs() - weight.abs().mean() / 2).clamp_min(0)
        torch.testing.assert_close(layer.weight.detach(), torch.where(mask > 0, less, weight))


def test_cut_leaves_no_interface():
    _, layers, labels, masks = parted()
    cut(layers, masks)
    assert interface(layers, labels) == 0.0
    assert all(bool(layer.weight.any()) for layer in layers)
