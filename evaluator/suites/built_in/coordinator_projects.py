"""What is to be planned: projects with their pieces of work, in a possible order."""

from dataclasses import dataclass
from typing import Final

RESEARCH, CODE, TEST, REVIEW = "research", "code", "test", "review"


@dataclass(frozen=True)
class Piece:
    """A piece of work: its name, what kind it is, and what has to be done, as an infinitive."""

    name: str
    kind: str
    phrase: str


@dataclass(frozen=True)
class Project:
    """A goal with the pieces that may belong to it.

    Attributes:
        key: of the family.
        goal: one or two sentences.
        domain: of the task.
        pieces: in a possible order; a task takes some of them.
    """

    key: str
    goal: str
    domain: str
    pieces: tuple[Piece, ...]


def _project(key: str, domain: str, goal: str, pieces: str) -> Project:
    """Read pieces from lines of `name | kind | phrase`."""
    rows = [[cell.strip() for cell in line.split("|")] for line in pieces.strip().splitlines()]
    return Project(key, goal, domain, tuple(Piece(*row) for row in rows))


PROJECTS: Final = (
    _project(
        "payments",
        "web",
        "The theatre shop shall take card payments by the first of May.",
        """
        provider-survey | research | find out which payment providers ask theatres for no deposit
        fee-table | research | put the fees of the remaining providers side by side
        order-record | code | extend the order so that it knows whether it was paid
        pay-page | code | build the page on which the visitor pays
        refund-button | code | give the box office a button that sends money back
        card-cases | test | write cases for declined, expired and stolen cards
        double-click | test | try whether clicking twice charges the visitor twice
        money-check | review | read everything that moves money and say whether it may go live
        final-look | review | go over the texts and the code of the pages one last time""",
    ),
    _project(
        "search",
        "backend",
        "Readers of the archive cannot find anything. Give it a search.",
        """
        reader-questions | research | collect what readers have asked the desk for in the last year
        engine-choice | research | compare three search engines on licence and memory
        text-export | code | export the articles as plain text
        index-job | code | write the job that fills the index at night
        query-door | code | write the endpoint that answers a query
        spelling | code | add suggestions for misspelt words
        gold-queries | test | put together forty queries with the articles they must find
        load-trial | test | measure how many queries per second it stands
        query-safety | review | read the endpoint critically for queries that break it""",
    ),
    _project(
        "mobile-offline",
        "mobile",
        "Wardens work in valleys without signal; the app must too.",
        """
        signal-map | research | find out where the wardens lose the signal, and for how long
        storage-options | research | compare the databases that run on both kinds of phone
        local-store | code | keep reports on the phone until they can be sent
        sync-queue | code | send what is waiting when the signal returns
        clash-rule | code | program the rule for two wardens who change one report
        battery-watch | code | slow the sending down when the battery is low
        tunnel-trial | test | switch the signal off and on in a hundred ways and see what arrives
        old-phone-run | test | run the whole suite on the oldest phone that we support
        clash-reading | review | read the rule for clashes and look for lost reports""",
    ),
    _project(
        "forecast",
        "data-science",
        "The dairy wants to know on Monday what it sells by Friday.",
        """
        holiday-list | research | collect the holidays and fairs that changed sales in the past
        method-notes | research | sum up which methods others use for goods that spoil
        sales-cleaning | code | repair the gaps and doubles in five years of sales
        weather-join | code | join the weather of each day to the sales
        model-fit | code | fit a model per shop and store it
        monday-mail | code | send each shop its numbers on Monday morning
        back-trial | test | replay last year week by week and measure the error
        odd-shops | test | check the shops that opened or closed during a year
        leak-hunt | review | read the code of the model critically for numbers of the future""",
    ),
    _project(
        "deploys",
        "devops",
        "Putting a release out takes a day. It should take ten minutes.",
        """
        step-inventory | research | collect every step that people do by hand today
        tool-shortlist | research | shortlist the tools that can do rolling updates here
        image-build | code | build one image per service from a clean checkout
        config-split | code | move the settings out of the images
        rollout-script | code | write the script that updates one machine after another
        way-back | code | make going back to the last release one command
        smoke-suite | test | write the checks that decide whether a machine is well
        broken-release | test | release something broken on purpose and watch it come back
        secret-reading | review | read images and settings for keys that must not be there""",
    ),
    _project(
        "booking",
        "web",
        "The sports hall wants its courts to be booked on the web.",
        """
        habit-study | research | ask three clubs how they share the courts today
        rival-look | research | see how the neighbouring towns let people book
        court-calendar | code | model courts, hours and closing days
        booking-form | code | build the form with which a club books
        waiting-list | code | build a queue for courts that are taken
        reminder-mail | code | remind a club the evening before
        midnight-cases | test | test bookings over midnight and on the day clocks change
        crowd-trial | test | let two hundred people book the same court at once
        privacy-reading | review | read the pages critically and judge what a stranger could see""",
    ),
    _project(
        "invoices",
        "backend",
        "Invoices are typed by hand. Read them by machine instead.",
        """
        sample-hunt | research | gather two hundred invoices from thirty suppliers
        law-notes | research | look up how long the originals must be kept
        page-split | code | cut scanned stacks into single invoices
        field-reader | code | read number, date, sum and tax from an invoice
        supplier-match | code | find the supplier in our own list
        ledger-entry | code | write the result into the ledger as a draft
        sum-check | test | compare the sums with those typed last year
        blot-cases | test | try crooked, stained and half-cut pages
        ledger-reading | review | read the code that writes to the ledger""",
    ),
    _project(
        "recommender",
        "data-science",
        "The record shop wants to suggest a third record.",
        """
        taste-study | research | find out what the staff suggest, and why
        data-rights | research | clarify which purchases we may use
        purchase-table | code | build the table of who bought what
        likeness-model | code | compute which records are bought together
        shelf-widget | code | show three suggestions beside the basket
        cold-start | code | program a fallback for records that nobody has bought
        blind-trial | test | hide the last purchase of each buyer and see whether it is suggested
        speed-trial | test | measure how long a suggestion takes on a Saturday
        bias-reading | review | read the ranking critically and judge if it is fair""",
    ),
    _project(
        "chat-help",
        "web",
        "Visitors of the museum ask the same things. Answer them at night.",
        """
        question-heap | research | collect last year's mails and sort them into kinds of questions
        vendor-terms | research | read what the vendors do with our visitors' words
        answer-pages | code | turn the leaflets into short pages
        page-finder | code | find the page that fits a question
        hand-over | code | pass to a person what no page answers
        night-switch | code | switch the helper on when the desk closes
        tricky-visitors | test | play a rude, a lost and a hurried visitor
        six-languages | test | ask the ten commonest questions in six languages
        tone-reading | review | read a hundred answers for errors and tone""",
    ),
    _project(
        "sensors-net",
        "devops",
        "Forty sensors shall report the level of the river.",
        """
        bank-survey | research | find places on the bank with signal and shade
        part-prices | research | ask four makers for prices and delivery times
        node-program | code | program the sensor to sleep, measure and send
        gateway-box | code | program the box that collects the messages
        level-store | code | store levels and drop impossible ones
        flood-alarm | code | ring the fire brigade above a given level
        bucket-trial | test | dip a sensor into buckets of known depth
        storm-replay | test | replay the storm of last winter through the whole chain
        alarm-reading | review | read the alarm for cases in which it stays silent""",
    ),
    _project(
        "translation",
        "web",
        "The town's pages shall exist in plain language as well.",
        """
        page-ranking | research | find out which fifty pages are read most
        rule-collection | research | collect the rules of plain language that apply here
        text-store | code | store two versions of each text side by side
        editor-view | code | show editors both versions at once
        switch-link | code | add a link that switches between them
        length-meter | code | warn when a sentence is too long
        reader-trial | test | let ten readers find five facts on the new pages
        screen-voice | test | listen to the pages with a screen reader
        fact-reading | review | read both versions critically for lost facts""",
    ),
    _project(
        "game",
        "mobile",
        "The zoo wants a treasure hunt that runs on visitors' phones.",
        """
        path-walk | research | find out where on the paths families stop
        animal-facts | research | gather one surprising fact per animal
        map-screen | code | draw the map with the visitor's place on it
        riddle-engine | code | ask riddles and judge the answers
        prize-code | code | show a code that the shop swaps for a prize
        sound-pack | code | play the animal's voice when it is found
        rain-run | test | play the whole hunt with wet gloves and weak signal
        cheat-attempts | test | try to win without leaving the entrance
        child-safety | review | read the code critically for data about children""",
    ),
    _project(
        "migration",
        "backend",
        "The old database loses support in June. Move to the new one.",
        """
        feature-list | research | collect what we use and the new one lacks
        trap-stories | research | read what others ran into when they moved
        schema-port | code | rewrite the schema for the new database
        copy-job | code | copy the rows while the shop stays open
        double-write | code | write to both databases for a while
        cut-over | code | script the switch and the way back
        row-compare | test | compare a million rows between old and new
        slow-hunt | test | find the queries that became slower
        switch-reading | review | go through the switch, line by line, with fresh eyes""",
    ),
    _project(
        "accounts",
        "web",
        "Members of the co-operative shall sign in with one account.",
        """
        account-census | research | find out who has how many accounts today
        standard-notes | research | compare the standards for signing in once
        identity-store | code | merge the members of three systems into one store
        sign-in-page | code | build the page for signing in
        second-factor | code | add a code by telephone as a second step
        forgotten-word | code | build the page on which members set a new password
        lock-out-trial | test | try to lock another member out
        merge-check | test | verify that nobody sees a stranger's data after the merge
        token-reading | review | read how long a sign-in lasts and where it is kept""",
    ),
    _project(
        "energy",
        "data-science",
        "The school wants to see which building wastes energy.",
        """
        meter-tour | research | note where the meters are and what they measure
        tariff-notes | research | find out what a kilowatt-hour cost in each year
        meter-import | code | import the readings of nine years
        degree-days | code | correct the readings for cold winters
        waste-chart | code | draw one chart per building
        alarm-rule | code | report a building that burns at night
        known-leak | test | see whether the leak of two years ago would have been found
        holiday-check | test | check the numbers of the holidays
        method-reading | review | read the correction critically for mistakes in reasoning""",
    ),
    _project(
        "build-speed",
        "devops",
        "A build takes fifty minutes and everybody complains.",
        """
        time-ledger | research | look up in old logs where the minutes of thirty builds went
        cache-notes | research | read up on what can be kept between builds
        cache-layer | code | keep downloaded parts between builds
        split-suite | code | change the build so that its tests run on six machines
        lazy-docs | code | build the manual only when it has changed
        flaky-list | code | program a filter for tests that fail at random
        stale-trial | test | look for builds that pass only because of the cache
        order-shuffle | test | run the tests in twenty random orders
        cache-reading | review | read the cache critically for ways to poison it""",
    ),
    _project(
        "routes",
        "mobile",
        "The post wants shorter rounds for its bicycles.",
        """
        round-diary | research | ask five riders about their rounds and collect the answers
        map-licence | research | clarify under which licence the map may be used
        street-graph | code | turn the map into a graph of streets
        round-solver | code | compute a short round for each district
        phone-view | code | show the next address on the phone
        stair-costs | code | program stairs and gates as lost time
        rider-trial | test | let five riders follow the new rounds for a day
        closed-street | test | close streets at random and compute again
        solver-reading | review | read the solver for rounds that skip a house""",
    ),
    _project(
        "tickets",
        "backend",
        "Complaints get lost between the desk and the workshop.",
        """
        paper-trail | research | find out what became of twenty complaints
        kind-list | research | collect last year's complaints and sort them into a dozen kinds
        ticket-store | code | store complaints with their state and history
        desk-form | code | build the form that the desk fills in
        workshop-board | code | show the workshop its open work
        owner-mail | code | write to the owner when the repair is done
        lost-trial | test | try to lose a complaint on purpose
        rush-hour | test | enter a day's complaints within ten minutes
        rights-reading | review | read the rules of access critically for loopholes""",
    ),
)
"""Families of the suite."""
