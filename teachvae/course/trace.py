"""One pass through the bound, slowly: every intermediate, its gradient and its equation, under its name.

    trace = Trace(model, theta, phi, x, eta)
    print(trace)                                  # in a notebook, just: trace
    trace["z"], trace.gradient("z")               # (S, N, K) each

With a recognition network it starts at x instead of φ, and with an optimiser it ends at the changed
parameters: one whole update of a VAE. Nothing is computed a second way. The trace runs
`bound.forward` and `bound.backward` themselves, on a model whose parts note what goes in and what
comes out, so what it shows is, bit for bit, what training does. Equation numbers are read from the
comments of the lines that did the work; their cards stand in derivations/, where a notebook's table leads.
"""

from dataclasses import replace
from html import escape
import inspect
import re
from typing import NamedTuple

from .. import bound
from ..arrays import tree
from ..arrays.backend import namespace, to_numpy
from ..arrays.observed import Observed, network_input, seen
from ..messages import align
from ..networks.layers import Parallel, Sequential
from ..posteriors import DiagonalGaussian, Flow
from . import equations

SHORT = 4  # an array of so many numbers is written out; of a longer one its range and mean
UNFOLDED = 2000  # the most numbers of one array that the HTML table holds, folded away


class Quantity(NamedTuple):
    """One quantity of a trace.

    name      as in the code: z, decoder[0].W; a gradient has a d before the last part, decoder[0].dW
    symbol    as on paper
    value     the array
    gradient  ∂(Σ_n dQ_n Q_n)/∂value, shaped like value; None where the backward has no use for it
    equation  the numbers of the equations that gave the value, such as "1.10, 3.1", or ""
    """

    name: str
    symbol: str
    value: object
    gradient: object
    equation: str


class ReplayError(ArithmeticError):
    """A replay gave other numbers; the message names the quantities that differ."""


class Trace:
    """The bound and its backward; where asked for, a recognition network before and a step after.

    model, theta, phi (N, n_phi), x (N, D), eta (S, N, K), weights, kl   as in `bound.forward`
    dQ         (N,) what each Q_n counts for; 1/N where None: the mean Q, which training minimises
    recognition, recognition_params   a network g_v and its v; phi is then None, and φ = g_v(x)
    optimizer  from `optimizers`: one step on θ and v, or on θ and φ where there is no network
    state      the optimiser's state before the step; a new one where None
    lower      bounds from below, a tree shaped like `before`, kept after the step; or None
    m_step     whether the step is that of an M-step, on θ alone: φ stays, and so does what the likelihood
               finds in closed form, whose gradient then stands as 0 among `gradients`

    All arrays are copied: training that goes on cannot change what is shown. Gradients are those of
    Σ_n dQ_n Q_n, in nats per unit of the quantity.

    forward, backward   lists of `Quantity`, in the order of computation
    before, gradients   {"theta": …, "recognition" or "phi": …}, trees of parameters and their gradients; of
                        an M-step {"theta": …}
    after, state        such a tree after the step, and the optimiser's state then; None without a step

    The names: x, mask, phi, m, log_s and s (or L), eta, weights, z, f, log_p, kl (or log_prior and
    log_q), Q; of each layer decoder[i].y, and its parameters, as decoder[i].W; recognition[i] likewise;
    likelihood.log_psi. Of the gradients dz, decoder[i].dW …, and where several roads lead to one place
    dphi_kl (or dphi_q) and dphi_z, dz_f, dz_q and dz_prior, whose sums are dphi and dz.

    Raises ValueError unless exactly one of phi and recognition is given, where recognition comes without its
    parameters, or with an M-step.
    """

    def __init__(self, model, theta, phi, x, eta, *, weights=None, kl=None, dQ=None,
                 recognition=None, recognition_params=None, optimizer=None, state=None, lower=None,
                 m_step=False):
        if (phi is None) == (recognition is None):
            given = "neither" if phi is None else "both"
            raise ValueError(f"a trace starts at phi, or with phi=None at a recognition network; got {given}")
        if (recognition is None) != (recognition_params is None):
            raise ValueError("recognition and recognition_params come together; got only one of them")
        if m_step and recognition is not None:
            raise ValueError("an M-step has φ in a table, got a recognition network: give phi, or no m_step")
        kl = bound.kl_for(model.posterior, kl)
        arrays = {"theta": theta, "phi": phi, "x": x, "eta": eta, "weights": weights, "dQ": dQ,
                  "recognition_params": recognition_params, "state": state, "lower": lower}
        others = {"model": model, "kl": kl, "recognition": recognition, "optimizer": optimizer,
                  "m_step": m_step}
        self._given = tree.map(_copy, arrays) | others
        self._pass(**{name: value for name, value in self._given.items() if name not in STEP})
        self._step(**{name: self._given[name] for name in STEP})

    def _pass(self, model, theta, phi, x, eta, weights, kl, dQ, recognition, recognition_params, m_step):
        """Forward and backward, as in training, with every call listened to."""
        calls = {}
        heard = replace(
            model,
            decoder=_Listener(_listen(model.decoder, "decoder", calls), "f", calls),
            likelihood=_Listener(model.likelihood, "likelihood", calls),
            posterior=_Listener(model.posterior, "q", calls),
        )
        self.before = {"theta": theta, "phi": phi}
        if recognition is not None:
            network = _Listener(_listen(recognition, "recognition", calls), "phi", calls)
            self.before = {"theta": theta, "recognition": recognition_params}
            phi, network_cache = network.forward(recognition_params, network_input(x))
        Q, cache = bound.forward(heard, theta, phi, x, eta, weights=weights, kl=kl)
        dQ = namespace(Q).ones_like(Q) / x.shape[0] if dQ is None else dQ
        dphi, dtheta = bound.backward(heard, theta, cache, dQ)
        self.gradients = {"theta": dtheta, "phi": dphi}
        if recognition is not None:
            _, dv = network.backward(recognition_params, network_cache, dphi, need_dx=False)
            self.gradients = {"theta": dtheta, "recognition": dv}
        if m_step:
            own = model.likelihood.by_gradient(dtheta["likelihood"])
            self.before, self.gradients = {"theta": theta}, {"theta": {**dtheta, "likelihood": own}}

        forward = _forward_rows(calls, model, x, phi, eta, weights, kl, Q)
        self.backward = _backward_rows(calls, model, kl, dQ, dphi, {row.name for row in forward})
        gradients = {row.name: row.value for row in self.backward}
        self.forward = [row._replace(gradient=gradients.get(_d(row.name))) for row in forward]

    def _step(self, optimizer, state, lower):
        self.after = self.state = None
        if optimizer is None:
            return
        flat, self.after = tree.pack(self.before)
        self.state = optimizer.init(flat) if state is None else tree.map(_copy, state)
        optimizer.step(flat, tree.flatten(self.gradients, self.before), self.state)
        if lower is not None:
            flat[...] = namespace(flat).maximum(flat, tree.flatten(lower, self.before))

    # ---- by name

    def __iter__(self):
        """The names of all quantities, in the order of computation."""
        return (row.name for row in [*self.forward, *self.backward])

    def row(self, name):
        """The `Quantity` of a quantity or of a gradient. Raises KeyError, with the names that there are."""
        rows = {row.name: row for row in [*self.forward, *self.backward]}
        if name not in rows:
            raise KeyError(f"no quantity {name!r} in this trace; there are {', '.join(rows)}")
        return rows[name]

    def __getitem__(self, name):
        """The value of a quantity or of a gradient: trace["z"], trace["dz"]."""
        return self.row(name).value

    def gradient(self, name):
        """The gradient of a quantity. Raises KeyError where none was computed, naming those that were."""
        if self.row(name).gradient is None:
            there = ", ".join(row.name for row in self.forward if row.gradient is not None)
            raise KeyError(f"the backward has no gradient of {name!r}; it has those of {there}")
        return self.row(name).gradient

    def updates(self):
        """(name, before, gradient, after) of every parameter, in order; empty without a step."""
        if self.after is None:
            return []
        names = [path.removeprefix("theta.") for path, _ in tree.leaves(self.before)]
        trees = [[leaf for _, leaf in tree.leaves(t)] for t in (self.before, self.gradients, self.after)]
        return list(zip(names, *trees, strict=True))

    # ---- again

    def replay(self):
        """The same pass and step again, from the copies that were kept; returns the new `Trace`.

        Raises `ReplayError` where a single bit differs, as it does when a layer draws its own noise.
        """
        again = Trace(**self._given)
        if names := self.differences(again):
            raise ReplayError(f"the replay differs from the trace in {', '.join(names)}")
        return again

    def differences(self, other):
        """The names of all quantities that are not the same, bit for bit, in the trace `other`."""
        mine, theirs = _numbers(self), _numbers(other)
        return [name for name in {**mine, **theirs}
                if name not in mine or name not in theirs or not _same(mine[name], theirs[name])]

    # ---- on the page

    def _heading(self):
        given = self._given
        S, N, K = self["z"].shape
        xp = namespace(self["Q"])
        total = float(xp.sum(self["dQ"] * self["Q"]))
        what = "mean Q" if given["dQ"] is None else "Σ_n dQ_n Q_n"
        return (f"N = {N} data cases, D = {given['x'].shape[1]}, K = {K}, S = {S} samples; {given['kl']} KL; "
                f"{what} = {total:.6g} nats, and every gradient is of this number")

    def _tables(self):
        """(title, head, lines) of each table; a cell is a string or an array."""
        forward = [(r.name, r.symbol, _shape(r.value), r.value, r.gradient, r.equation) for r in self.forward]
        backward = [(r.name, r.symbol, _shape(r.value), r.value, r.equation) for r in self.backward]
        yield ("Forward: read down (and its gradients: read up)",
               ("name", "symbol", "shape", "value", "gradient", "equation"), forward)
        yield "Backward: read down", ("name", "symbol", "shape", "value", "equation"), backward
        if self.after is not None:
            optimizer = self._given["optimizer"]
            number = ", ".join(NUMBER.findall(type(optimizer).__doc__ or ""))
            lines = [(name, _shape(p), p, dp, new) for name, p, dp, new in self.updates()]
            yield (f"Step: {optimizer!r}" + (f", equation {number}" if number else ""),
                   ("name", "shape", "before", "gradient", "after"), lines)

    def __str__(self):
        parts = [self._heading()]
        for title, head, lines in self._tables():
            cells = [head, *(tuple(_short(cell) for cell in line) for line in lines)]
            parts += ["", title, align(cells)]
        return "\n".join(parts)

    def __repr__(self):
        return f"<Trace of {len(self.forward)} quantities: {self._heading()}>"

    def _repr_html_(self):
        parts = [f"<p>{escape(self._heading())}</p>"]
        for title, head, lines in self._tables():
            top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            body = "".join(
                "<tr>" + "".join(
                    f"<td>{equations.linked(cell)}</td>" if name == "equation" else _cell(cell)
                    for name, cell in zip(head, line)
                ) + "</tr>" for line in lines
            )
            parts.append(f"<h4>{escape(title)}</h4><div class=wide><table><thead><tr>{top}</tr></thead>"
                         f"<tbody>{body}</tbody></table></div>")
        return f"<div class=teachvae-trace><style>{STYLE}</style>{''.join(parts)}</div>"


# ---- listening


class Call(NamedTuple):
    """One call of a part's method: what went in and what came out."""

    method: object
    args: tuple
    result: object


class _Listener:
    """A part of the model that works as ever; calls[path, method's name] keeps its latest `Call`."""

    def __init__(self, part, path, calls):
        self.part, self.path, self.calls = part, path, calls

    def __getattr__(self, name):
        attribute = getattr(self.part, name)
        if not callable(attribute):
            return attribute

        def heard(*args, **options):
            result = attribute(*args, **options)
            self.calls[self.path, name] = Call(attribute, args, result)
            return result

        return heard


def _listen(network, path, calls):
    """The same network, its layers listened to one by one; paths as in the tree of its parameters."""
    if type(network) in (Sequential, Parallel):
        parts = network.layers if type(network) is Sequential else network.branches
        heard = tuple(_listen(part, f"{path}[{i}]", calls) for i, part in enumerate(parts))
        return type(network)(heard)
    return _Listener(network, path, calls)


# ---- from calls to rows


def _gaussian(posterior, phi):
    """A family and its φ: of a flow, those of the Gaussian behind its layers."""
    return (posterior.gaussian, posterior.unpack(phi)[0]) if isinstance(posterior, Flow) else (posterior, phi)


def _forward_rows(calls, model, x, phi, eta, weights, kl, Q):
    x, mask = seen(x)
    rows = [Quantity("x", "x", x, None, "")]
    if mask is not None:
        rows.append(Quantity("mask", "1 where x was seen", mask, None, ""))
    rows += _layer_rows(calls, "recognition")
    amortised = ("phi", "forward") in calls
    number = _join("1.17", _taken_from(rows, phi)) if amortised else ""
    rows.append(Quantity("phi", "φ = g_v(x)" if amortised else "φ", phi, None, number))
    gaussian, base = _gaussian(model.posterior, phi)
    rows.append(Quantity("m", "m", gaussian.mean(base), None, ""))
    spread = gaussian.unpack(base)[1] if hasattr(gaussian, "unpack") else None  # log s or L
    if isinstance(model.posterior, DiagonalGaussian):
        s = namespace(phi).exp(spread)
        rows += [Quantity("log_s", "log s", spread, None, ""), Quantity("s", "s", s, None, "")]
    elif spread is not None:
        rows.append(Quantity("L", "L", spread, None, ""))
    sample = calls["q", "sample"]
    z = sample.result[0]                                           # (S, N, K)
    rows.append(Quantity("eta", "η", eta, None, ""))
    if weights is not None:
        rows.append(Quantity("weights", "w", weights, None, ""))
    rows.append(Quantity("z", "z = T(φ, η)", z, None, _join("1.10", sample)))
    rows += _layer_rows(calls, "decoder")
    likelihood = calls["likelihood", "forward"]
    params, f = likelihood.args[:2]                                # f (S, N, n_f)
    number = _taken_from(rows, calls["f", "forward"].result[0])
    rows.append(Quantity("f", "f_w(z)", f, None, number))
    rows += _parameter_rows(params, "likelihood")
    rows.append(Quantity("log_p", "log p(x|z)", likelihood.result[0], None, _join(likelihood)))
    if kl == "analytic":
        q = calls["q", "kl"]
        rows.append(Quantity("kl", "KL(q‖p(z))", q.result[0], None, _join(q)))
    else:
        q = calls["q", "log_prob"]
        rows += [Quantity("log_prior", "log p(z)", model.log_prior(z), None, "1.1"),
                 Quantity("log_q", "log q(z|φ)", q.result[0], None, _join(q))]
    return [*rows, Quantity("Q", "Q", Q, None, "1.8" if kl == "analytic" else "1.9")]


def _backward_rows(calls, model, kl, dQ, dphi, names):
    likelihood, sample = calls["likelihood", "backward"], calls["q", "sample_backward"]
    dlog_p, dz, dphi_z = likelihood.args[2], sample.args[1], sample.result
    rows = [Quantity("dQ", "weight of Q", dQ, None, ""),
            Quantity("dlog_p", "∂/∂ log p(x|z)", dlog_p, None, "1.11")]
    if kl == "analytic":
        q = calls["q", "kl_backward"]
        rows.append(Quantity("dkl", "∂/∂ KL", q.args[1], None, ""))
    else:
        q = calls["q", "log_prob_backward"]
        dlog_q = q.args[1]                                         # w dQ, (S, N)
        # log p(z) stands in Q as log p(x|z) does, so a sample's weight is the same for both.
        rows += [Quantity("dlog_prior", "∂/∂ log p(z)", dlog_p, None, "1.13"),
                 Quantity("dlog_q", "∂/∂ log q(z|φ)", dlog_q, None, "1.13")]
    df, dlikelihood = likelihood.result
    # Of a likelihood without parameters all of the backward is df, whatever its parts are called.
    number = _join(likelihood, name="df" if dlikelihood else None)
    rows.append(Quantity("df", "∂/∂ f", df, None, number))
    rows += _gradient_rows(dlikelihood, "likelihood", likelihood)
    rows += _layer_gradients(calls, "decoder", names)
    through_f = _into(calls, calls["f", "forward"].args[1])        # the number of the first layer's dx
    if kl == "analytic":
        rows += [Quantity("dz", "∂/∂ z", dz, None, through_f),
                 Quantity("dphi_kl", "∂/∂ φ through KL", q.result, None, _join(q))]
    else:
        dz_f = namespace(dz).reshape(calls["f", "backward"].result[0], dz.shape)
        dphi_q, dz_q = q.result
        dz_prior = model.log_prior_backward(calls["q", "sample"].result[0], dlog_p)
        rows += [Quantity("dz_f", "∂/∂ z through f", dz_f, None, through_f),
                 Quantity("dz_q", "∂/∂ z through log q", dz_q, None, _join(q, name="dz")),
                 Quantity("dz_prior", "∂/∂ z through log p(z)", dz_prior, None, "1.31"),
                 Quantity("dz", "∂/∂ z", dz, None, "1.13"),
                 Quantity("dphi_q", "∂/∂ φ in log q, z fixed", dphi_q, None, _join(q, but="dz"))]
    gaussian, base = _gaussian(model.posterior, dphi)
    rows += [Quantity("dphi_z", "∂/∂ φ through z", dphi_z, None, _join(sample)),
             Quantity("dm", "∂/∂ m", gaussian.mean(base), None, _join(q, sample, name="dm"))]
    if isinstance(model.posterior, DiagonalGaussian):
        _, dlog_s = model.posterior.unpack(dphi)
        rows.append(Quantity("dlog_s", "∂/∂ log s", dlog_s, None, _join(q, sample, name="dlog_s")))
    rows.append(Quantity("dphi", "∂/∂ φ", dphi, None, "1.12" if kl == "analytic" else "1.13"))
    return [*rows, *_layer_gradients(calls, "recognition", names)]


def _layer_rows(calls, root):
    """Parameters and output of every layer of a network."""
    rows = []
    for (path, kind), call in calls.items():
        if kind == "forward" and path.partition("[")[0] == root:
            rows += _parameter_rows(call.args[0], path)
            rows.append(Quantity(f"{path}.y", _formula(call.method), call.result[0], None, _join(call)))
    return rows


def _taken_from(rows, y):
    """Take the last row off where it is y, which gets a row under its own name; its equation, or ""."""
    return rows.pop().equation if rows[-1].value is y else ""


def _layer_gradients(calls, root, names):
    """What reached every layer of a network, last layer first, and its parameters' gradients."""
    rows = []
    for (path, kind), call in calls.items():
        if kind == "backward" and path.partition("[")[0] == root:
            if f"{path}.y" in names:                               # the last one's dy is df or dphi
                number = _into(calls, calls[path, "forward"].result[0])
                rows.append(Quantity(f"{path}.dy", "∂/∂ y", call.args[2], None, number))
            rows += _gradient_rows(call.result[1], path, call)
    return rows


def _parameter_rows(params, path):
    return [Quantity(name, SYMBOLS.get(_last(name), _last(name)), leaf, None, "")
            for name, leaf in tree.leaves(params, path)]


def _gradient_rows(dparams, path, call):
    return [Quantity(_d(row.name), f"∂/∂ {row.symbol}", row.value, None,
                     _join(call, name=_last(_d(row.name))))
            for row in _parameter_rows(dparams, path)]


def _into(calls, y):
    """The number of the line that made dy: the dx of the layer that took y."""
    for (path, kind), call in calls.items():
        if kind == "forward" and path not in ("f", "phi", "likelihood") and call.args[1] is y:
            return _join(calls[path, "backward"], name="dx")
    return ""


def _d(name):
    """The name of a gradient: dz, decoder[0].dW."""
    start, dot, last = name.rpartition(".")
    return f"{start}{dot}d{last}"


def _last(name):
    """The last part of a name: the W of decoder[0].W."""
    return name.rpartition(".")[2]


def _formula(method):
    """What a layer does, "y = tanh x", from the start of its docstring; else its class's name."""
    layer = type(method.__self__)
    found = re.match(r"(y = .+?)\.(\s|$)", layer.__doc__ or "")
    return found[1] if found else layer.__name__


def _join(*sources, name=None, but=None):
    """Equation numbers as one string; of a call those of its method, or of its lines `name = …` alone, or of
    all its lines but those.
    """
    numbers = []
    for source in sources:
        if isinstance(source, str):
            numbers.append(source)
            continue
        for target, found in _equations(source.method).items():
            if target != but and name in (None, target):
                numbers += found
    return ", ".join(dict.fromkeys(number for number in numbers if number))


def _equations(method):
    """{name on the left of a statement, or "return": numbers in the comments of its lines}."""
    try:
        lines = inspect.getsource(method).splitlines()
    except (OSError, TypeError):                                   # a layer typed in at a prompt has none
        return {}
    found, target = {}, "return"
    for line in lines:
        code, _, comment = line.partition("#")
        statement = re.match(r"\s*(?:(\w+)(?:, \w+)* = |(return)\b)", code)
        if statement:
            target = statement[1] or statement[2]
        if numbers := NUMBER.findall(comment):
            found.setdefault(target, []).extend(numbers)
    return found


# ---- numbers


def _copy(value):
    if isinstance(value, Observed):
        return value.each(_copy)
    return namespace(value).asarray(value, copy=True) if hasattr(value, "shape") else value


def _numbers(trace):
    """{name: host array} of everything in a trace, the parameters after the step among them."""
    after = {f"{name} after the step": new for name, _, _, new in trace.updates()}
    return {name: to_numpy(value) for name, value in ({n: trace[n] for n in trace} | after).items()}


def _same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _short(cell):
    """A cell as text: a few numbers, or the range and the mean of many."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    host = to_numpy(cell)
    if host.size <= SHORT:
        return ", ".join(f"{number:.4g}" for number in host.ravel().tolist())
    low, high = f"{host.min():.3g}", f"{host.max() + 0:.3g}"       # + 0: no "-0"
    return f"all {low}" if low == high else f"{low} … {high}, mean {host.mean():.3g}"


def _cell(cell):
    """A cell as HTML: text, or an array that unfolds to all its numbers."""
    text = escape(_short(cell))
    if cell is None or isinstance(cell, str) or not SHORT < cell.size <= UNFOLDED:
        return f"<td>{text}</td>"
    numbers = escape(_grid(to_numpy(cell).tolist()))
    return f"<td><details><summary>{text}</summary><pre>{numbers}</pre></details></td>"


def _grid(values):
    """Nested lists of numbers as lines; a blank line between the matrices of an array with three axes."""
    if not isinstance(values[0], list):
        return " ".join(f"{number:>10.4g}" for number in values)
    return ("\n\n" if isinstance(values[0][0], list) else "\n").join(_grid(part) for part in values)


def _shape(value):
    return "(" + ", ".join(str(n) for n in value.shape) + ("," if len(value.shape) == 1 else "") + ")"


STEP = ("optimizer", "state", "lower")
SYMBOLS = {"log_psi": "log Ψ"}
NUMBER = re.compile(r"\((\d+\.\d+)\)")
STYLE = """
.teachvae-trace { font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fff; padding: .3rem .6rem }
.teachvae-trace h4 { margin: 1.1rem 0 .3rem; font-size: 1rem }
.teachvae-trace .wide { overflow-x: auto }
.teachvae-trace table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
.teachvae-trace th, .teachvae-trace td { padding: .18rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #ddd; white-space: nowrap; color: #222; background: #fff }
.teachvae-trace th { font-weight: 600; border-bottom: 2px solid #444 }
.teachvae-trace td:first-child { font-family: ui-monospace, monospace; font-weight: 600 }
.teachvae-trace summary { cursor: pointer }
.teachvae-trace pre { margin: .2rem 0; font-size: .8rem; line-height: 1.3; color: #222; background: #f6f6f6 }
"""
