"""The latent explorer: its page computes what Python computes, obeys mouse, finger and keyboard, and asks for
nothing from elsewhere. The tests of the page need Chromium."""

from dataclasses import replace
from html.parser import HTMLParser
import json

import chromium
import numpy as np
import pytest

import teachvae
from teachvae import VAE, Autoencoder, FactorAnalysis, GaussianMixture, VariationalEM, cli, datasets
from teachvae.comparison import compare, explorer, report

pytestmark = pytest.mark.short                                     # most fits here end early on purpose

CASES = 50


@pytest.fixture(scope="module")
def digits():
    return datasets.first(datasets.digits(), 150)


@pytest.fixture(scope="module")
def models(digits):
    return {
        "factor analysis": FactorAnalysis(2).fit(digits.x),
        "variational EM": VariationalEM(2, hidden=(8,), epochs=3).fit(digits.x),
        "VAE": VAE(2, hidden=(12, 10), epochs=40, separate=True).fit(digits.x),
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium.CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    browser = chromium.Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def file(models, digits, tmp_path_factory):
    return explorer.write(models, digits, tmp_path_factory.mktemp("page") / "explorer.html", cases=CASES)


@pytest.fixture
def page(browser, file):
    """The browser with the page freshly opened, at the VAE and data case 3."""
    return opened(browser, file, "#explorer?model=VAE&case=3")


EXPLORER = "document.querySelector('.explorer').explorer"
RESTS = f"{EXPLORER} && document.querySelector('[data-text=status]').textContent === ''"


def opened(browser, file, hash=""):
    """The page in a window of a desk, its first numbers computed."""
    browser.errors.clear()
    browser.look(1280, 900)
    browser.open("about:blank")
    browser.open(f"file://{file}{hash}")
    browser.until(RESTS)
    return browser


def told(page, what):
    return page.run(f"JSON.parse(JSON.stringify({what}, (k, v) => v instanceof Float64Array ? [...v] : v))")


def middle(page, selector):
    """Where the middle of an element is, scrolled into view."""
    page.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
    return page.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2, r.width, r.height])"
                    f"(document.querySelector('{selector}').getBoundingClientRect())")


def do(page, name):
    page.run(f"document.querySelector('[data-do={name}]').click()")
    page.until(RESTS)


# ---- what the page computes


def test_the_page_opens_from_disk_without_a_request_and_without_an_error(browser, file):
    opened(browser, file)
    assert browser.errors == []
    assert browser.asked == [f"file://{file}"]


def test_pages_of_digits_stay_below_600_kilobytes():
    whole = datasets.digits()
    few = datasets.first(whole, 60).x                              # their sizes are those of the defaults
    of_full_size = {
        "FA": FactorAnalysis(2).fit(few), "VEM": VariationalEM(2, epochs=1).fit(few),
        "VAE": VAE(2, epochs=1).fit(few),
    }
    phi = {title: np.zeros((len(whole.x), 4)) for title in of_full_size}
    assert len(explorer.section(of_full_size, whole, phi=phi).encode()) < 600_000


@pytest.mark.parametrize("count", [6, pytest.param(CASES, marks=pytest.mark.thorough)])
def test_q_kl_and_nlml_are_those_of_python(page, models, digits, count):
    x = digits.x[:count]
    numbers = np.array(told(page, f"""(e => e.models.map((model, i) => e.cases(0, {count}).map((n) => {{
        Object.assign(e.state, {{model: i, case: n, phi: null}});
        const {{Q, kl}} = e.bound();
        return [Q, kl, e.M.nlml(model, e.x()).nlml];
    }})))({EXPLORER})"""))
    for (title, model), (Q, kl, nlml) in zip(models.items(), np.moveaxis(numbers, 2, 1)):
        phi = model.encode(x) if title == "VAE" else model.infer(x)
        np.testing.assert_allclose(Q, model.bound(x), atol=1e-6, rtol=0, err_msg=title)
        np.testing.assert_allclose(kl, model.model_.posterior.kl(phi)[0], atol=1e-9, rtol=0, err_msg=title)
        np.testing.assert_allclose(nlml, model.nlml(x, "grid").values, atol=1e-6, rtol=0, err_msg=title)


def bounds(page, model, cases):
    """Q of the first cases, at the φ in use."""
    return told(page, f"""(e => e.cases(0, {cases}).map((n) => {{
        Object.assign(e.state, {{model: {model}, case: n, phi: null}});
        return e.bound().Q;
    }}))({EXPLORER})""")


def ledgers(page, cases):
    return told(page, f"""(e => e.models.map((model, i) => e.cases(0, {cases}).map((n) => {{
        Object.assign(e.state, {{model: i, case: n, phi: null}});
        const found = e.ledger();
        return {{nlml: found.nlml, full: found.qFull.Q, optimal: found.qOptimal.Q, error: found.certificate}};
    }})))({EXPLORER})""")


def test_the_ledger_is_that_of_python_or_has_found_a_better_q(page, models, digits):
    for found, (title, model) in zip(ledgers(page, 5), models.items()):
        gaps = model.gaps(digits.x[:5])
        for one, nlml, full, optimal in zip(found, gaps.nlml, gaps.q_full, gaps.q_optimal):
            assert one["nlml"] == pytest.approx(nlml, abs=1e-6) and one["error"] < 1e-6
            assert one["full"] < full + 1e-5 and one["optimal"] < optimal + 1e-5, title
            assert one["nlml"] - 1e-6 < one["full"] < one["optimal"] + 1e-6, title
        assert np.median([abs(one["optimal"] - other) for one, other in zip(found, gaps.q_optimal)]) < 1e-6


def test_the_network_names_the_phi_of_python(page, models, digits):
    phi = np.array(told(page, f"""(e => e.cases(0, {CASES}).map((n) => {{
        Object.assign(e.state, {{model: 2, case: n}});
        return e.models[2].encode(e.x());
    }}))({EXPLORER})"""))
    np.testing.assert_allclose(phi, models["VAE"].encode(digits.x[:CASES]), atol=1e-12)


def pixels(page, name):
    """The grey values of a picture, (h, w), from 0 to 255."""
    values = page.run(f"""(({{width: w, height: h}}, c) => [w, h, ...c.getImageData(0, 0, w, h).data])
        (document.querySelector('[data-canvas={name}]'),
         document.querySelector('[data-canvas={name}]').getContext('2d'))""")
    return np.array(values[2:]).reshape(values[1], values[0], 4)[..., 0]


@pytest.mark.parametrize("z", [(0.0, 0.0), (1.25, -0.5), (-2.0, 3.0)])
def test_the_picture_is_the_decoders_output_to_the_nearest_grey(page, models, z):
    for i, model in enumerate(models.values()):
        page.run(f"{EXPLORER}.change({{model: {i}, z: {list(z)}}})")
        expected = 255 * (1 - np.clip(model.decode(np.array([z]))[0], 0, 1))
        assert np.abs(pixels(page, "decoded").ravel() - expected).max() <= 1


def test_the_numbers_on_the_page_are_those_that_were_computed(page, models, digits):
    rows = page.run("[...document.querySelectorAll('[data-place=bound] td')].map(td => td.textContent)")
    cost, kl, Q, nlml, gap = (float(text.replace("−", "-")) for text in rows)
    x = digits.x[3:4]
    assert Q == pytest.approx(models["VAE"].bound(x)[0], abs=6e-5)
    assert nlml == pytest.approx(models["VAE"].nlml(x, "grid").values[0], abs=6e-5)
    assert cost + kl == pytest.approx(Q, abs=2e-4) and Q - nlml == pytest.approx(gap, abs=2e-4)
    shares = page.run("[...document.querySelectorAll('[data-place=shares] td')].map(td => td.textContent)")
    *parts, total = (float(text.replace("−", "-")) for text in shares)
    assert sum(parts) == pytest.approx(total, abs=4e-4) and total == Q
    bars = page.run(
        "[...document.querySelectorAll('[data-place=ledger] i')].map(i => parseFloat(i.style.width))"
    )
    np.testing.assert_allclose(np.array(bars) / 100, np.maximum(parts[1:], 0) / gap, atol=1e-3)
    looks = page.run("[...document.querySelectorAll('[data-place=looks] tr')].map(tr => tr.textContent)")
    assert looks[0].startswith("±6.00.114641") and looks[1].startswith("±8.00.125921") and len(looks) >= 3
    assert "certificate" in page.run("document.querySelector('[data-text=certificate]').textContent")


@pytest.mark.parametrize("kind", ["bernoulli", "full", "relu"])
def test_other_likelihoods_families_and_activations(browser, tmp_path, kind, digits):
    if kind == "bernoulli":
        data = datasets.first(datasets.digits(threshold=8), 60)
        model = VAE(2, hidden=(6,), likelihood="bernoulli", activation="softplus", epochs=10).fit(data.x)
    else:
        data = datasets.bent_sheet(n_cases=60)
        data = replace(data, x=np.insert(data.x, 1, 3.0, axis=1), truth=None)  # a column that is set aside
        choices = {"full": {"posterior": "full", "activation": "sigmoid"}, "relu": {"activation": "relu"}}
        model = VAE(2, hidden=(6,), constant="drop", epochs=10, **choices[kind])
        with pytest.warns(UserWarning, match="set aside"):
            model.fit(data.x)
    page = opened(browser, explorer.write({"one": model}, data, tmp_path / "page.html"))
    (found,), Q = ledgers(page, 5), bounds(page, 0, 5)
    if kind == "relu":                                             # its kinks let no rule settle
        with pytest.warns(UserWarning):
            np.testing.assert_allclose(Q, model.bound(data.x[:5]), atol=1e-3)
        worth = model.nlml(data.x[:5], "importance", n_samples=100_000)
        assert np.all(np.abs([one["nlml"] for one in found] - worth.values) < 5 * worth.standard_error + 1e-4)
        assert all(one["error"] < 1e-3 for one in found)
    else:
        np.testing.assert_allclose([one["nlml"] for one in found], model.gaps(data.x[:5]).nlml, atol=1e-6)
        np.testing.assert_allclose(Q, model.bound(data.x[:5]), atol=1e-6)
    whole = told(page, f"(e => e.models[0].whole(e.models[0].mean([0.3, -0.2])))({EXPLORER})")
    np.testing.assert_allclose(whole, model.decode(np.array([[0.3, -0.2]]))[0], atol=1e-12)
    assert page.run("document.querySelector('[data-part=draw]').hidden") == (kind != "bernoulli")
    assert browser.errors == []


# ---- what one can do there


def test_the_e_step_ends_at_the_best_q_and_no_step_raises_the_bound(page):
    best = told(page, f"{EXPLORER}.ledger().qOptimal.Q")
    do(page, "prior")
    values = [told(page, f"{EXPLORER}.bound().Q")]
    for _ in range(60):
        page.run("document.querySelector('[data-do=step]').click()")
        page.until("document.querySelector('[data-text=steps]').textContent !== ''")
        page.until(RESTS)
        values.append(told(page, f"{EXPLORER}.bound().Q"))
        if "Nothing to gain" in page.run("document.querySelector('[data-text=steps]').textContent"):
            break
    assert np.all(np.diff(values) <= 1e-5) and values[0] > values[-1] + 1  # Q is taken on finer nodes
    page.run("document.querySelector('[data-do=used]').click()")
    page.run("document.querySelector('[data-do=estep]').click()")
    page.until("document.querySelector('[data-text=steps]').textContent.includes('ended')")
    assert told(page, f"{EXPLORER}.bound().Q") == pytest.approx(best, abs=1e-4)


def test_handles_are_dragged_and_marks_are_clicked(page):
    page.run(f"{EXPLORER}.change({{view: {{c: [0, 0], r: 3}}, phi: Float64Array.of(0.5, 0.5, -1, -1)}})")
    x, y, size, _ = middle(page, "[data-canvas=plane]")

    def at(z1, z2):
        return x + z1 * size / 6, y - z2 * size / 6

    page.drag(at(0.5, 0.5), at(0.6, 0.5), at(-0.7, 0.9))           # the mean of q
    phi = told(page, f"{EXPLORER}.phi()")
    np.testing.assert_allclose(phi, [-0.7, 0.9, -1, -1], atol=0.02)
    edge = np.sqrt(-2 * np.log(0.1)) * np.exp(-1)
    page.drag(at(-0.7 + edge, 0.9), at(0.2, 0.9), at(0.8, 0.9))    # its first width
    phi = told(page, f"{EXPLORER}.phi()")
    np.testing.assert_allclose(np.exp(phi[2]), 1.5 / np.sqrt(-2 * np.log(0.1)), atol=0.01)
    page.drag(at(2.5, -2.5), at(2.0, -2.0), at(1.5, -2.0))         # the point z
    np.testing.assert_allclose(told(page, f"{EXPLORER}.state.z"), [1.5, -2.0], atol=0.02)
    marks = np.array(told(page, f"{EXPLORER}.models[2].marks"))
    alone = [n for n in range(CASES) if np.sort(np.abs(marks - marks[n]).max(axis=1))[1] > 0.2]
    far = [n for n in alone if np.abs(marks[n] - [-0.7, 0.9]).max() > 0.5 and np.abs(marks[n]).max() < 2.9
           and np.abs(marks[n] - [0.8, 0.9]).max() > 0.3 and np.abs(marks[n] - [1.5, -2]).max() > 0.3]
    page.drag(at(*marks[far[0]]))
    page.until(RESTS)
    assert told(page, f"{EXPLORER}.state.case") == far[0] and page.errors == []


def test_a_finger_drags_a_handle_taps_and_draws(page):
    page.run(f"{EXPLORER}.change({{view: {{c: [0, 0], r: 3}}, z: [-1, -1]}})")
    page.run(f"{EXPLORER}.change({{phi: Float64Array.of(1, 1, -1, -1)}})")
    page.until(RESTS)
    x, y, size, _ = middle(page, "[data-canvas=plane]")

    def at(z1, z2):
        return {"x": x + z1 * size / 6, "y": y - z2 * size / 6}

    def touch(*points):
        for i, point in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            page.send("Input.dispatchTouchEvent", type=kind, touchPoints=[point])
        page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        page.until(RESTS)

    touch(at(1, 1), at(0.8, 1), at(0, 1.5))
    np.testing.assert_allclose(told(page, f"{EXPLORER}.phi()")[:2], [0, 1.5], atol=0.05)
    page.run(f"{EXPLORER}.change({{hide: new Set(['marks'])}})")
    touch(at(2, -2))
    np.testing.assert_allclose(told(page, f"{EXPLORER}.state.z"), [2, -2], atol=0.05)
    x, y, size, _ = middle(page, "[data-canvas=draw]")
    touch({"x": x, "y": y - size / 3}, {"x": x, "y": y}, {"x": x, "y": y + size / 3})
    assert told(page, f"[...{EXPLORER}.state.drawn].filter(ink => ink > 7).length") > 8 and page.errors == []


def test_a_drawn_case_is_named_by_the_network_and_refined(page):
    x, y, size, height = middle(page, "[data-canvas=draw]")
    assert abs(size - height) < 2
    page.drag(*[(x + a * size, y + b * size) for a, b in [(-0.2, -0.35), (0.25, -0.3), (0.1, 0), (0, 0.4)]])
    page.until(RESTS)
    ink = told(page, f"[...{EXPLORER}.state.drawn]")
    rows = np.array(ink).reshape(8, 8)
    assert told(page, f"{EXPLORER}.state.case") == "drawn" and (rows.max(axis=1) > 7).all()
    values = told(page, f"{EXPLORER}.x()")
    np.testing.assert_allclose(values, (np.rint(np.array(ink) / 15 * 16) + 0.5) / 17)
    page.until("document.querySelector('[data-text=drawn]').textContent.includes('it is')")

    def gap():
        return told(page, f"(e => e.bound().Q - e.ledger().qOptimal.Q)({EXPLORER})")

    assert gap() > 0.01
    page.run("document.querySelector('[data-do=refine]').click()")
    page.until("document.querySelector('[data-text=steps]').textContent.includes('ended')")
    assert abs(gap()) < 1e-4 or gap() > 0.5                        # it may have stayed in a mode of its own
    page.run("document.querySelectorAll('[role=tab]')[1].click()")  # without a network the E-step gives φ
    page.until(RESTS)
    assert gap() == pytest.approx(0, abs=1e-9)


def test_s_and_the_kind_of_noise_change_what_is_said_of_the_gradient(page):
    def spread():
        page.until("document.querySelector('[data-text=noise]').textContent !== ''")
        words = page.run("document.querySelector('[data-text=noise]').textContent")
        return words, float(words.partition("S = ")[2].partition(": ")[2].partition(",")[0])

    words, one = spread()
    assert "smooth function" in words
    page.run("document.querySelector('[data-text=noise]').textContent = ''")
    page.run(f"{EXPLORER}.change({{S: 64, eta: 'redrawn'}})")
    words, many = spread()
    assert "S = 64" in words and "no slope" in words and one / 20 < many < one / 3  # about an eighth


NAME = """e => e.dataset.do ?? e.dataset.input ?? e.dataset.canvas ?? e.getAttribute('role') ??
    (e.dataset.hide ? 'hide ' + e.dataset.hide : e.tagName)"""     # what a control is called


def focused(page):
    return page.run(f"({NAME})(document.activeElement)")


def tab_to(page, name):
    """Press Tab until the control has the focus."""
    for _ in range(80):
        if focused(page) == name:
            return
        page.press("Tab")
    raise AssertionError(f"Tab never comes to {name}")


def test_every_control_is_reached_and_worked_by_the_keyboard(page):
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.run("document.activeElement.blur()")
    reached = set()
    for _ in range(70):
        page.press("Tab")
        reached.add(focused(page))
    there = set(page.run(f"""['button', 'input', 'summary', 'canvas[tabindex]']
        .flatMap(tag => [...document.querySelectorAll('.explorer ' + tag)])
        .filter(e => e.offsetParent && !e.disabled).map({NAME})"""))
    assert len(there) > 30
    assert there - reached == set()

    def state(what):
        page.until(RESTS)
        return told(page, f"{EXPLORER}.{what}")

    def changed(name, *keys, what, shift=False):
        before = state(what)
        tab_to(page, name)
        for key in keys:
            page.press(key, shift)
        assert state(what) != before, f"{name}: {keys} changed nothing"

    changed("tab", "ArrowLeft", what="state.model")
    changed("tab", "ArrowRight", what="state.model")
    changed("next", "Enter", what="state.case")
    changed("previous", "Enter", what="state.case")
    changed("case", "ArrowUp", what="state.case")
    changed("plane", "ArrowUp", "ArrowLeft", what="state.z")
    changed("plane", "ArrowRight", what="phi()", shift=True)
    for name in ("m1", "m2", "s1", "s2"):
        changed(name, "ArrowRight", what="phi()")
    for name in ("z1", "z2"):
        changed(name, "ArrowRight", what="state.z")
    for name in ("out", "in", "close", "whole"):
        changed(name, "Enter", what="state.view")
    changed("prior", "Enter", what="phi()")
    changed("used", "Enter", what="phi()")
    changed("step", "Enter", what="phi()")
    changed("S", "ArrowRight", what="state.S")
    changed("eta", "ArrowRight", what="state.eta")
    changed("redraw", "Enter", what="state.seed")
    changed("draw", "ArrowDown", "ArrowRight", " ", what="state.drawn")
    changed("draw", "Delete", what="state.drawn")
    changed("copy", "Enter", what="state.drawn")
    changed("refine", "Enter", what="phi()")
    changed("clear", "Enter", what="state.drawn")
    tab_to(page, "hide noise")
    page.press(" ")
    assert page.run("document.querySelector('[data-part=noise]').hidden")
    assert page.errors == []


def test_the_address_holds_the_state(browser, page, file):
    page.run(f"""{EXPLORER}.change({{case: 7, z: [0.5, -1.25], phi: Float64Array.of(0.25, 1, -1, -2), S: 8,
             eta: 'redrawn', view: {{c: [0.5, 0], r: 2}}, hide: new Set(['draw', 'best'])}})""")
    page.until(RESTS)
    page.until("location.hash.includes('case=7')")
    what = "(({model, case: n, z, phi, S, eta, view, hide}) => [model, n, z, phi, S, eta, view, [...hide]])"
    before, address = told(page, f"{what}({EXPLORER}.state)"), page.run("location.hash")
    opened(browser, file, address)
    assert told(page, f"{what}({EXPLORER}.state)") == before
    assert page.run("document.querySelector('[data-part=draw]').hidden")
    ink = "Uint8Array.from({length: 64}, (_, i) => i % 16)"
    page.run(f"{EXPLORER}.change({{case: 'drawn', drawn: {ink}, phi: null}})")
    page.until("location.hash.includes('drawn=0123')")
    opened(browser, file, page.run("location.hash"))
    assert told(page, f"[...{EXPLORER}.state.drawn]") == [i % 16 for i in range(64)]


@pytest.mark.parametrize("hash", [
    "#explorer?model=none&case=-5&z=a,b&phi=1&view=0,0,-1&S=3&eta=x&hide=nothing",
    "#explorer?case=1e9&drawn=zz", "#x",
    "#explorer?model=VAE&phi=NaN,1,1,1&z=Infinity,0&case=drawn&drawn=12",
])
def test_an_address_that_makes_no_sense_shows_something_sensible(browser, file, hash):
    page = opened(browser, file, hash)
    assert 0 <= told(page, f"{EXPLORER}.state.case") < CASES
    assert np.isfinite(told(page, f"{EXPLORER}.bound().Q"))
    assert page.errors == []


def test_parts_are_hidden_and_shown(page):
    for name in ("plane", "images", "q", "ledger", "draw", "noise", "marks", "posterior", "best"):
        page.run(f"document.querySelector('[data-hide={name}]').click()")
    page.until(RESTS)
    assert page.run("[...document.querySelectorAll('[data-part]')].every(p => p.hidden)")
    page.run("document.querySelector('[data-hide=plane]').click()")
    assert not page.run("document.querySelector('[data-part=plane]').hidden") and page.errors == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone_and_every_picture_has_words(browser, file, dark):
    opened(browser, file, "#explorer?model=VAE&case=3")
    browser.look(360, 740, dark=dark, mobile=True, scale=2)
    browser.until("window.innerWidth === 360")
    browser.until(RESTS)
    assert browser.run("document.documentElement.scrollWidth") == 360
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark
    browser.until("document.querySelector('[data-canvas=cloud]').hasAttribute('aria-label')")
    silent = browser.run("""[...document.querySelectorAll('.explorer canvas, .explorer [role=img]')]
        .filter(e => !e.getAttribute('aria-label')).map(e => e.dataset.canvas)""")
    nameless = browser.run("""[...document.querySelectorAll('.explorer button, .explorer input')]
        .filter(e => !(e.textContent || e.getAttribute('aria-label') || e.labels?.length))
        .map(e => e.outerHTML)""")
    assert silent == [] and nameless == []
    browser.look(1280, 900)


# ---- what goes into the page


def test_what_the_page_cannot_show_is_refused_in_words(digits):
    x = datasets.linear_gaussian(n_cases=60, n_visible=7, n_latent=2).x
    x = (x - x.min()) / (x.max() - x.min())
    refused = {
        "K = 3": FactorAnalysis(3, noise="isotropic").fit(x),
        "StudentT": VAE(2, hidden=(3,), likelihood="student-t", epochs=1).fit(x),
        "relaxed": VAE(2, hidden=(3,), likelihood="bernoulli-relaxed", epochs=1).fit(x),
        "Flow": VAE(2, hidden=(3,), posterior=teachvae.posteriors.coupling_flow(2), epochs=1).fit(x),
        "Autoencoder has no q": Autoencoder(2, hidden=(3,), epochs=1).fit(x),
        "GaussianMixture has no q": GaussianMixture(2).fit(x),
        "not fitted": VAE(2),
    }
    for words, model in refused.items():
        assert words in explorer.refusal(model)
        with pytest.raises(ValueError, match=words):
            explorer.page({"one": model}, digits)
    with pytest.raises(ValueError, match="no model"):
        explorer.page({}, digits)


def test_incomplete_cases_are_left_out():
    x = datasets.linear_gaussian(n_cases=40, n_visible=5, n_latent=2).x.copy()
    model = FactorAnalysis(2).fit(x)
    x[1, 2] = np.nan
    data = datasets.Dataset(x, "holes", "", "", missing=True)
    found = explorer.exported({"one": model}, data)
    assert found["rows"] == [str(n) for n in range(40) if n != 1]
    with pytest.raises(ValueError, match="no complete data case"):
        explorer.exported({"one": model}, replace(data, x=x[1:2]))


class Tags(HTMLParser):
    """How often each tag stands in a page, and what its script for data holds."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data, self.inside = [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = dict(attributes).get("id") == "explorer-data"

    def handle_data(self, text):
        if self.inside:
            self.data += text

    def handle_endtag(self, tag):
        self.inside = False


def test_names_that_come_from_data_are_text(digits):
    bad = "</script><img src=x onerror='alert(1)'>{{script}}<!--"
    x = digits.x[:30, 20:23]
    model = FactorAnalysis(2).fit(x)
    usual = datasets.Dataset(x, "a", "", "", columns=("a", "b", "c"), labels=np.array(["a"] * 30))
    hostile = replace(usual, name=bad, columns=(bad, "{{data}}", "c"), labels=np.array([bad] * 30))
    pages = [Tags(explorer.page({title: model}, data)) for title, data in (("a", usual), (bad, hostile))]
    assert pages[0].tags == pages[1].tags
    found = json.loads(pages[1].data)
    assert found["columns"] == [bad, "{{data}}", "c"]
    assert found["models"][0]["title"] == bad == found["labels"][0]


def test_hostile_names_run_nothing_in_the_page(browser, tmp_path, digits):
    bad = "<img src=x onerror='window.hit = 1'>"
    x = digits.x[:30, 20:23]
    data = datasets.Dataset(x, bad, "", "", columns=(bad, bad, "c"), labels=np.array([bad, "b"] * 15))
    page = opened(browser, explorer.write({bad: FactorAnalysis(2).fit(x)}, data, tmp_path / "page.html"))
    assert page.run("window.hit === undefined") and page.run("document.images.length") == 0


# ---- the command, and the report


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The folder of a small comparison of digits."""
    folder = tmp_path_factory.mktemp("compared")
    data = datasets.first(datasets.digits(), 60)
    result = teachvae.compare(data, hidden=(4,), epochs=2, ledger=0, save=folder / "saved")
    return result, folder / "saved"


def test_the_command_writes_a_page_of_a_folder(comparison, tmp_path, capsys):
    _, folder = comparison
    assert cli.main(["explore", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'page.html'}\n" and "variational EM, neural" in err and "kB" in err
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    found = json.loads(Tags((tmp_path / "page.html").read_text(encoding="utf-8")).data)
    assert [model["route"] for model in found["models"]] == ["closed form", "table", "network"]
    assert found["shape"] == [8, 8] and found["levels"] == 17 and len(found["rows"]) == 12


def test_the_command_writes_a_page_of_models_and_data(comparison, tmp_path, capsys):
    result, folder = comparison
    files = [str(folder / "seed0" / f"{name}.npz") for name in ("vae", "vae-linear")]
    page = tmp_path / "page.html"
    assert cli.main(["explore", *files, "--cases", "5", "--output", str(page), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    found = json.loads(Tags(page.read_text(encoding="utf-8")).data)
    assert [model["title"] for model in found["models"]] == ["VAE", "VAE, vae-linear"]
    assert len(found["rows"]) == 5
    model = VAE(2, hidden=(3,), likelihood="bernoulli", epochs=1).fit(datasets.digits(threshold=8).x[:50])
    model.save(tmp_path / "binary.npz")
    assert cli.main(["explore", str(tmp_path / "binary.npz"), "--cases", "5", "--output", str(page)]) == 0
    x = explorer.opened([tmp_path / "binary.npz"])[1].x
    assert set(np.unique(x)) == {0.0, 1.0} and len(x) == 1797
    np.savetxt(tmp_path / "own.csv", result.held_out.x, delimiter=",")
    assert explorer.opened([files[0]], str(tmp_path / "own.csv"))[1].x.shape == (12, 64)


def test_the_command_says_what_is_wrong(comparison, tmp_path, capsys):
    _, folder = comparison
    for arguments, words in {
        (str(tmp_path / "none.npz"),): "none.npz", (str(tmp_path),): "no folder of",
        (str(folder / "seed0" / "ae.npz"),): "Autoencoder has no q",
        (str(folder), "--data", "spiral"): "other data",
        (str(folder / "seed0" / "vae.npz"), "--data", "spiral"): "64 features",
    }.items():
        assert cli.main(["explore", *arguments, "--output", str(tmp_path / "page.html")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_the_report_holds_the_explorer_where_it_has_a_plane(comparison, browser, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "_image", lambda figure, alt: "")
    result, _ = comparison
    text = report.html(result.comparison)
    assert ">The latent explorer</h2>" in text
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    browser.open(f"file://{tmp_path}/report.html")
    browser.run("document.querySelector('.explorer').scrollIntoView()")
    browser.until(RESTS)
    assert browser.run(f"{EXPLORER}.models.length") == 3 and browser.errors == []
    x, vae = result.held_out.x, result.models["VAE"]
    np.testing.assert_allclose(bounds(browser, 2, 2), vae.bound(x[:2]), atol=1e-6)


def test_a_report_without_a_plane_says_why(monkeypatch):
    monkeypatch.setattr(report, "_image", lambda figure, alt: "")
    data = datasets.linear_gaussian(n_cases=40, n_visible=4, n_latent=1)
    text = report.html(compare.run(data, compare.Options(1, hidden=(3,), epochs=1, ledger=0)))
    assert "the latent plane has two axes, and this VAE has K = 1" in text and "explorer-data" not in text


def test_pictures_of_the_report_fill_the_window_and_contents_lead_to_all_parts(comparison, browser, tmp_path):
    result, _ = comparison
    (tmp_path / "report.html").write_text(report.html(result.comparison), encoding="utf-8")
    browser.errors.clear()
    browser.look(1280, 900)
    browser.open(f"file://{tmp_path}/report.html")
    links = browser.run("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    heads = browser.run("[...document.querySelectorAll('h2')].map(h => h.id)")
    assert links == heads and len(set(heads)) > 8
    browser.run("document.querySelector('.picture').focus()")
    browser.press("Enter")
    browser.until("document.querySelector('dialog')?.open")
    assert browser.run("document.querySelector('dialog img').getBoundingClientRect().width") > 1200
    browser.press("Escape")
    browser.until("document.querySelector('dialog') === null")
    for dark in (False, True):
        browser.look(360, 740, dark=dark, mobile=True)
        assert browser.run("document.documentElement.scrollWidth") == 360
        light = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light != dark
    browser.look(1280, 900)
    outside = [address for address in browser.asked if not address.startswith(("file://", "data:"))]
    assert browser.errors == [] and outside == []


def test_the_reports_first_words_name_the_least_q(comparison):
    result, _ = comparison
    first, second = report._lead(result.comparison)
    rows = [row for row in result.rows.values() if row.q_held_out is not None]
    best = min(rows, key=lambda row: row.q_held_out)
    assert "one bound, Q ≥ NLML" in first
    assert f"{best.q_held_out:.3f} nats per data case, is that of {best.model}:" in second
